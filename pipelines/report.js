// Values and films of all contests → what is chosen: tables to sort, films in step, clips to compare.

const DATA = JSON.parse(document.getElementById("data").textContent);
const WORST = 8; // clips listed
const SIDES = ["a", "b"];
const $ = (id) => document.getElementById(id);
const contest = () => DATA[$("protocol").value];
const metric = () => contest().metrics.find((one) => one.key === $("metric").value);
const pairs = () => new Map(contest().pairs.map((one) => [one.pair, one]));

// --- choice -------------------------------------------------------------------------------------

function fill(select, options, first) {
  const wanted = select.value || first;
  select.replaceChildren(...options.map(([value, text]) => new Option(text, value)));
  const known = options.map(([value]) => value);
  select.value = known.includes(wanted) ? wanted : known.includes(first) ? first : known[0] ?? "";
}

function chooseContest() {
  const { systems, metrics, films } = contest();
  const base = $("choice").dataset.against;
  fill($("metric"), metrics.map((one) => [one.key, one.title]));
  fill($("a"), systems.map((name) => [name, name]), systems.filter((name) => name !== base).at(-1));
  fill($("b"), systems.map((name) => [name, name]), base);
  const filmed = (pair) => systems.some((name) => films[name][pair]);
  const first = contest().pairs.find((one) => filmed(one.pair))?.pair;
  fill($("pair"), contest().pairs.map(({ pair, person }) =>
    [pair, `${pair} (${person})${filmed(pair) ? "" : ", no film"}`]), first);
  for (const part of document.querySelectorAll("[data-contest]"))
    part.hidden = part.dataset.contest !== $("protocol").value;
  load();
  showClips();
}

function choosePair(pair) {
  $("pair").value = pair;
  load();
  markPair();
  $("watch").scrollIntoView();
  $("play").focus({ preventScroll: true });
}

// --- clips --------------------------------------------------------------------------------------

const shape = (name, attributes, text = "") => {
  const node = document.createElementNS($("scatter").namespaceURI, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.textContent = text;
  return node;
};
const digits = (value) => value.toFixed(metric().digits);

function showClips() {
  const { key, title, values } = metric() ?? { values: {} };
  const [a, b] = SIDES.map((side) => values[$(side).value] ?? {});
  const points = Object.keys(a).filter((pair) => pair in b).map((pair) => ({ pair, a: a[pair], b: b[pair] }));
  $("scatter-title").textContent = points.length
    ? `${title}: ${$("a").value} (across) against ${$("b").value} (up), ${points.length} pairs`
    : "No pair has a value of both systems";
  drawScatter(points);
  listWorst(points);
  for (const row of document.querySelectorAll("[data-metric]")) row.hidden = row.dataset.metric !== key;
  markPair();
}

function ticksOf(low, high) {
  const raw = (high - low) / 4;
  const power = 10 ** Math.floor(Math.log10(raw));
  const size = power * [1, 2, 5, 10].find((one) => one * power >= raw);
  const first = Math.ceil(low / size);
  return Array.from({ length: Math.floor(high / size) - first + 1 }, (_, n) => Number(((first + n) * size).toPrecision(6)));
}

function drawScatter(points) {
  const scatter = $("scatter");
  scatter.replaceChildren();
  if (!points.length) return;
  const all = points.flatMap((one) => [one.a, one.b]);
  const margin = (Math.max(...all) - Math.min(...all)) * 0.06 || Math.abs(all[0]) * 0.05 || 1;
  const [low, high] = [Math.min(...all) - margin, Math.max(...all) + margin];
  const [left, right, top, bottom] = [56, 428, 12, 352];
  const x = (value) => left + ((value - low) / (high - low)) * (right - left);
  const y = (value) => bottom - ((value - low) / (high - low)) * (bottom - top);
  for (const tick of ticksOf(low, high)) scatter.append(
    shape("line", { class: "grid", x1: x(tick), x2: x(tick), y1: top, y2: bottom }),
    shape("line", { class: "grid", x1: left, x2: right, y1: y(tick), y2: y(tick) }),
    shape("text", { class: "tick", x: x(tick), y: bottom + 18 }, tick),
    shape("text", { class: "tick", x: left - 8, y: y(tick) + 4, style: "text-anchor: end" }, tick));
  scatter.append(
    shape("line", { class: "reference", x1: x(low), y1: y(low), x2: x(high), y2: y(high) }),
    shape("text", { class: "tick", x: (left + right) / 2, y: bottom + 40 }, `A  ${$("a").value}`),
    shape("text", { class: "tick", x: 0, y: 0, transform: `translate(12 ${(top + bottom) / 2}) rotate(-90)` }, `B  ${$("b").value}`));
  points.sort((one, other) => one.a - other.a).forEach((point, place) => {
    const dot = shape("circle", { cx: x(point.a), cy: y(point.b), r: 5.5, tabindex: place ? -1 : 0, role: "button",
      "data-pair": point.pair, "aria-label": `${point.pair}: A ${digits(point.a)}, B ${digits(point.b)}` });
    dot.append(shape("title", {}, `${point.pair}: A ${digits(point.a)}, B ${digits(point.b)}`));
    scatter.append(dot);
  });
}

function connectScatter() {
  $("scatter").addEventListener("click", ({ target }) => { if (target.dataset.pair !== undefined) choosePair(target.dataset.pair); });
  $("scatter").addEventListener("keydown", (event) => {
    const dots = [...$("scatter").querySelectorAll("circle")];
    const move = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 }[event.key];
    if (move) {
      const next = dots[(dots.indexOf(event.target) + move + dots.length) % dots.length];
      event.target.setAttribute("tabindex", -1);
      next.setAttribute("tabindex", 0);
      next.focus();
    } else if (event.key === "Enter" || event.key === " ") choosePair(event.target.dataset.pair);
    else return;
    event.preventDefault();
  });
}

function listWorst(points) {
  const { higher, title } = metric() ?? {};
  const bad = (value) => (higher === null ? Math.abs(value) : higher ? -value : value);
  const rank = { a: (one) => bad(one.a), b: (one) => bad(one.b), lead: (one) => bad(one.a) - bad(one.b) }[$("order").value];
  const chosen = [...points].sort((one, other) => rank(other) - rank(one)).slice(0, WORST);
  $("worst").caption.textContent = title ? `${title}: ${$("order").selectedOptions[0].text}` : "";
  $("worst").tBodies[0].replaceChildren(...chosen.map((one) => {
    const row = document.createElement("tr");
    row.dataset.pair = one.pair;
    const [head, button] = [document.createElement("th"), document.createElement("button")];
    const isFilmed = SIDES.some((side) => contest().films[$(side).value][one.pair]);
    Object.assign(button, { type: "button", textContent: isFilmed ? one.pair : `${one.pair}, no film`, disabled: !isFilmed });
    button.addEventListener("click", () => choosePair(one.pair));
    head.scope = "row";
    head.append(button);
    row.append(head);
    for (const value of [one.a, one.b, one.a - one.b]) row.insertCell().textContent = digits(value);
    return row;
  }));
}

function markPair() {
  for (const mark of document.querySelectorAll("#clips [data-pair]")) {
    mark.removeAttribute("aria-current");
    if (mark.dataset.pair === $("pair").value) mark.setAttribute("aria-current", "true");
  }
}

// --- tables -------------------------------------------------------------------------------------

function makeSortable(table) {
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const first = column === 0 || head.textContent.includes("↓") ? "ascending" : "descending";
      const other = first === "ascending" ? "descending" : "ascending";
      const order = head.getAttribute("aria-sort") === first ? other : first;
      for (const cell of table.tHead.rows[0].cells) cell.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", order);
      sortRows(table.tBodies[0], column, order === "ascending" ? 1 : -1);
    });
  });
}

function sortRows(body, column, sign) {
  const value = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent;
  const compare = (one, other) => {
    const [x, y] = [value(one), value(other)];
    if (x === "" || y === "") return (x === "") - (y === ""); // what has no value comes last
    return sign * (Number.isNaN(x - y) ? x.localeCompare(y) : x - y);
  };
  body.append(...[...body.rows].sort(compare));
}

document.querySelectorAll("table.sortable").forEach(makeSortable);
if (Object.keys(DATA).length) {
  for (const id of ["choice", "watch", "clips"]) $(id).hidden = false;
  fill($("protocol"), Object.entries(DATA).map(([key, one]) => [key, one.label]));
  $("protocol").addEventListener("change", chooseContest);
  for (const side of SIDES) $(side).addEventListener("change", () => { load(); showClips(); });
  for (const id of ["metric", "order"]) $(id).addEventListener("change", showClips);
  $("pair").addEventListener("change", () => { load(); markPair(); });
  connectPlayer();
  connectScatter();
  chooseContest();
}
