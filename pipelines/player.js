"use strict";
// The chosen pair's films, A leading and B following, drawn side by side and driven as one.

const TILES = { source: 0, driver: 1, made: 2, truth: 3 }; // places in the strip of a film
let present = []; // videos of this pair, the leading one first
let frames = 0;
let isPlaying = false;
let ticking = 0;
let loads = 0;
let wanted = 0;
let isSeeking = false;

const settled = (video, event) => new Promise((done) => {
  for (const name of [event, "error"]) video.addEventListener(name, done, { once: true });
});
const frameOf = (video) => Math.min(frames - 1, Math.floor(video.currentTime * contest().fps + 1e-6));

async function load() {
  pause();
  const turn = ++loads; // whoever waits for an older film gives up
  isSeeking = false;
  const pair = $("pair").value;
  const found = [];
  for (const side of SIDES) {
    const video = $(`film-${side}`);
    const address = contest().films[$(side).value]?.[pair];
    if (address) found.push(video);
    if (address && video.getAttribute("src") !== address) video.src = address;
    if (!address && video.hasAttribute("src")) { video.removeAttribute("src"); video.load(); }
    document.querySelector(`[data-role="${side}"] figcaption`).textContent =
      `${side.toUpperCase()}  ${$(side).value}`;
    $(`view-${side}`).setAttribute("aria-label", `${side.toUpperCase()}: ${$(side).value}, ${pair}`);
  }
  await Promise.all(found.filter((v) => v.readyState < 2).map((v) => settled(v, "loadeddata")));
  if (turn !== loads) return;
  present = found.filter((video) => video.readyState >= 2);
  frames = present.length ? pairs().get(pair).frames : 0;
  $("seek").max = Math.max(0, frames - 1);
  for (const id of ["back", "play", "forward", "seek"]) $(id).disabled = !present.length;
  for (const view of document.querySelectorAll("[data-role]")) {
    const video = videoOf(view.dataset.role);
    const canvas = view.querySelector("canvas");
    view.querySelector(".absent").hidden = Boolean(video);
    canvas.width = video ? video.videoWidth / 4 : 128;
    canvas.height = video ? video.videoHeight : 128;
  }
  await show(0);
}

function videoOf(role) {
  const video = SIDES.includes(role) ? $(`film-${role}`) : present[0];
  return present.includes(video) ? video : undefined;
}

function draw() {
  for (const view of document.querySelectorAll("[data-role]")) {
    const role = view.dataset.role;
    const video = videoOf(role);
    const canvas = view.querySelector("canvas");
    if (!video) continue;
    const { width, height } = canvas;
    canvas.getContext("2d").drawImage(video, (TILES[role] ?? TILES.made) * width, 0, width, height, 0, 0, width, height);
    canvas.dataset.frame = frameOf(video);
  }
  const frame = present.length ? frameOf(present[0]) : 0;
  $("seek").value = frame;
  $("clock").value = frames ? `frame ${frame + 1} of ${frames}, ${(frame / contest().fps).toFixed(2)} s` : "no film";
}

async function show(frame) {
  wanted = Math.max(0, Math.min(frames - 1, frame));
  if (isSeeking) return; // the running loop goes there
  isSeeking = true;
  const turn = loads;
  for (let shown = -1; shown !== wanted && present.length;) {
    shown = wanted;
    const time = (shown + 0.5) / contest().fps; // the middle of a frame: no rounding to its neighbour
    await Promise.all(present.map((video) => {
      if (Math.abs(video.currentTime - time) < 1e-4) return null;
      video.currentTime = time;
      return settled(video, "seeked");
    }));
    if (turn !== loads) return;
  }
  isSeeking = false;
  draw();
}

async function play() {
  if (!present.length) return;
  isPlaying = true;
  $("play").textContent = "Pause";
  if (frameOf(present[0]) >= frames - 1) await show(0);
  start();
}

async function start() {
  for (const video of present) video.playbackRate = Number($("speed").value);
  try {
    await Promise.all(present.map((video) => video.play()));
  } catch (error) {
    if (error.name !== "AbortError") throw error; // paused, or another film chosen, meanwhile
  }
  cancelAnimationFrame(ticking);
  ticking = requestAnimationFrame(tick);
}

function pause() {
  isPlaying = false;
  $("play").textContent = "Play";
  for (const side of SIDES) $(`film-${side}`).pause();
}

async function tick() {
  if (!isPlaying) return;
  const [lead, follower] = present;
  if (lead.ended || lead.currentTime >= frames / contest().fps) {
    if (!$("loop").checked) return step(frames - 1);
    for (const video of present) video.pause();
    await show(0);
    if (isPlaying) start();
    return;
  }
  if (!follower || follow(lead, follower)) draw();
  ticking = requestAnimationFrame(tick);
}

// Bring the two together; whether they are within a frame, so that what is drawn always is.
function follow(lead, follower) {
  const speed = Number($("speed").value);
  const late = (lead.currentTime - follower.currentTime) * contest().fps; // frames
  const push = Math.abs(late) < 0.2 ? 0 : Math.max(-0.7, Math.min(0.7, late / 3));
  const rates = [Math.abs(late) > 0.7 ? 1 - push : 1, 1 + push]; // the one that sounds stays calm
  [lead, follower].forEach((video, place) => {
    const rate = speed * rates[place];
    if (Math.abs(video.playbackRate - rate) > 0.02) video.playbackRate = rate;
  });
  return Math.abs(late) <= 1;
}

async function step(frame) {
  pause();
  await show(frame);
}

function connectPlayer() {
  const now = () => (isSeeking ? wanted : frameOf(present[0]));
  const actions = {
    " ": () => (isPlaying ? pause() : play()),
    ArrowLeft: () => step(now() - 1),
    ArrowRight: () => step(now() + 1),
    Home: () => step(0),
    End: () => step(frames - 1),
  };
  $("play").addEventListener("click", actions[" "]);
  $("back").addEventListener("click", actions.ArrowLeft);
  $("forward").addEventListener("click", actions.ArrowRight);
  $("seek").addEventListener("input", () => step(Number($("seek").value)));
  $("speed").addEventListener("change", () => present.forEach((v) => { v.playbackRate = Number($("speed").value); }));
  $("film-a").muted = true;
  $("sound").addEventListener("change", () => { $("film-a").muted = !$("sound").checked; });
  $("player").addEventListener("keydown", (event) => {
    const owns = event.key === " " ? "button, select, input" : "select, input[type=range]";
    if (!present.length || !actions[event.key] || event.target.matches(owns)) return;
    event.preventDefault();
    actions[event.key]();
  });
}
