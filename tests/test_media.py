"""Media files: bit-exact round trips, 25 fps by time stamps, aligned sound, clear errors."""

from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from av.stream import Disposition

from fixtalk.media import (
    SAMPLES_PER_FRAME,
    MediaError,
    VideoReader,
    decode_frames,
    encode_video,
    probe,
    read_audio,
    read_video,
    resample_25fps,
    to_float,
    to_uint8,
    write_video,
)


def drawn(frames: int, side: int = 64) -> np.ndarray:
    """Smooth pictures with a bright bar that moves on by two pixels a frame."""
    rows, columns = np.mgrid[:side, :side]
    pictures = np.zeros((frames, side, side, 3), np.uint8)
    pictures[..., 0], pictures[..., 2] = rows * 3, columns * 3
    for number in range(frames):
        pictures[number, :, (2 * number) % side] = 255
    return pictures


def counting(path, times: list[float], time_base: Fraction, held: float = 0.04) -> None:
    """A video whose frame n, shown from times[n] on, is uniformly of brightness 4n.

    The last is shown for `held` seconds.
    """
    with av.open(str(path), "w") as container:
        codec, pixel_format = ("ffv1", "bgr0") if path.suffix == ".mkv" else ("png", "rgb24")
        stream = container.add_stream(codec, rate=30)
        stream.width = stream.height = 16
        stream.pix_fmt = pixel_format
        stream.codec_context.time_base = time_base
        for number, time in enumerate(times):
            pixels = np.full((16, 16, 3), 4 * number, np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = round(Fraction(time) / time_base), time_base
            for packet in stream.encode(frame):
                if number == len(times) - 1:
                    packet.duration = round(Fraction(held) / packet.time_base)
                container.mux(packet)
        container.mux(stream.encode(None))


def shown(path) -> list[int]:
    return [int(frame[0, 0, 0]) // 4 for frame in VideoReader(path)]


def test_affine_map_gives_every_pixel_value_back():
    pixels = torch.arange(256, dtype=torch.uint8)

    frames = to_float(pixels)

    assert torch.equal(to_uint8(frames), pixels)
    assert frames[0] == -1
    assert frames[255] == 1
    assert to_uint8(torch.tensor([-3.0, 3.0])).tolist() == [0, 255]


def test_lossless_is_read_back_bit_for_bit(tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (5, 33, 47, 3), dtype=np.uint8)
    audio = np.arange(5 * SAMPLES_PER_FRAME, dtype=np.int16)

    write_video(tmp_path / "a.mkv", frames, audio=audio, lossless=True)

    assert np.array_equal(read_video(tmp_path / "a.mkv"), frames)
    assert np.array_equal(read_audio(tmp_path / "a.mkv", 5), audio)
    assert [path.name for path in tmp_path.iterdir()] == ["a.mkv"]


def test_same_frames_give_the_same_bytes():
    frames = drawn(12)
    audio = np.zeros(12 * SAMPLES_PER_FRAME, np.int16)

    for lossless in (False, True):
        first = encode_video(frames, crf=14, gop=5, audio=audio, lossless=lossless)
        assert first == encode_video(list(frames), crf=14, gop=5, audio=audio, lossless=lossless)


def test_mp4_is_close_to_what_was_written_and_has_no_b_frames(tmp_path):
    frames = np.repeat(np.repeat(drawn(12, 32), 2, axis=1), 2, axis=2)

    write_video(tmp_path / "a.mp4", frames, crf=10, gop=5)

    info = probe(tmp_path / "a.mp4")
    assert (info.width, info.height, info.fps, info.frames) == (64, 64, 25.0, 12)
    assert not info.has_audio
    assert np.abs(read_video(tmp_path / "a.mp4").astype(int) - frames).mean() < 4
    with av.open(str(tmp_path / "a.mp4")) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    assert [packet.pts for packet in packets] == [packet.dts for packet in packets]
    assert [number for number, packet in enumerate(packets) if packet.is_keyframe] == [0, 5, 10]


def test_a_click_stays_at_its_frame_through_aac():
    audio = np.zeros(50 * SAMPLES_PER_FRAME, np.int16)
    audio[20 * SAMPLES_PER_FRAME + 100] = 30000

    heard = read_audio(encode_video(drawn(50), crf=20, gop=5, audio=audio), 50)

    assert len(heard) == 50 * SAMPLES_PER_FRAME
    assert abs(int(np.abs(heard).argmax()) - 20 * SAMPLES_PER_FRAME - 100) < 32  # 2 ms


def test_sound_is_aligned_to_the_first_frame_and_padded(tmp_path):
    """Sound at 44.1 kHz stereo from 0 s on, pictures from 0.2 s on."""
    tone = np.zeros(44100, np.int16)
    tone[int(44100 * 0.6)] = 30000
    with av.open(str(tmp_path / "late.mkv"), "w") as container:
        video = container.add_stream("ffv1", rate=25)
        video.width = video.height = 16
        video.pix_fmt = "bgr0"
        sound = container.add_stream("pcm_s16le", rate=44100)
        sound.layout = "stereo"
        frame = av.AudioFrame.from_ndarray(np.repeat(tone, 2)[None], format="s16", layout="stereo")
        frame.sample_rate, frame.pts, frame.time_base = 44100, 0, Fraction(1, 44100)
        container.mux(sound.encode(frame))
        for number in range(30):
            picture = av.VideoFrame.from_ndarray(drawn(1, 16)[0], format="rgb24")
            picture.pts, picture.time_base = number + 5, Fraction(1, 25)
            container.mux(video.encode(picture))
        container.mux(video.encode(None))

    heard = read_audio(tmp_path / "late.mkv", 30)

    assert len(heard) == 30 * SAMPLES_PER_FRAME
    assert abs(int(np.abs(heard).argmax()) - int(0.4 * 16000)) < 32
    assert not heard[int(0.82 * 16000) :].any()


@pytest.mark.parametrize("b_frames", [0, 3])
def test_avi_is_shown_in_order_and_in_time_with_its_sound(tmp_path, b_frames):
    """AVI stores no times of showing. Frame n is of brightness 4n; a click at frame 30."""
    click = np.zeros(50 * SAMPLES_PER_FRAME, np.int16)
    click[30 * SAMPLES_PER_FRAME + 100] = 30000
    with av.open(str(tmp_path / "a.avi"), "w") as container:
        video = container.add_stream("libx264", rate=25, options={"bf": str(b_frames), "crf": "4"})
        video.width, video.height, video.pix_fmt = 64, 64, "yuv420p"
        sound = container.add_stream("pcm_s16le", rate=16000)
        sound.layout = "mono"
        frame = av.AudioFrame.from_ndarray(click[None], format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 16000, 0, Fraction(1, 16000)
        container.mux(sound.encode(frame))
        for number in range(50):
            pixels = np.full((64, 64, 3), 4 * number, np.uint8)
            picture = av.VideoFrame.from_ndarray(pixels).reformat(format="yuv420p")
            picture.pts = number
            container.mux(video.encode(picture))
        container.mux(video.encode(None))

    brightness = read_video(tmp_path / "a.avi").mean(axis=(1, 2, 3))
    heard = read_audio(tmp_path / "a.avi", 50)

    assert np.round(brightness / 4).tolist() == list(range(50))
    assert np.abs(heard).argmax() == 30 * SAMPLES_PER_FRAME + 100


def test_a_file_without_sound_gives_no_samples():
    assert read_audio(encode_video(drawn(5), crf=20, gop=5), 5).shape == (0,)


@pytest.mark.parametrize("rate", [Fraction(24), Fraction(25), Fraction(30000, 1001), Fraction(60)])
def test_frames_are_chosen_by_time_stamp(tmp_path, rate):
    times = [Fraction(number) / rate for number in range(60)]
    counting(tmp_path / "a.mkv", times, Fraction(1, 1000))

    numbers = shown(tmp_path / "a.mkv")

    stamps = np.array([round(time * 1000) for time in times])  # mkv stores milliseconds
    expected = [int(np.flatnonzero(stamps <= 40 * k + 1)[-1]) for k in range(len(numbers))]
    assert numbers == expected
    assert abs(len(numbers) - 60 / rate * 25) <= 1


def test_variable_frame_rate_and_late_start(tmp_path):
    times = [5.0, 5.02, 5.04, 5.2, 5.24]  # a picture held for 0.16 s, all 5 s late
    counting(tmp_path / "a.mkv", times, Fraction(1, 1000))

    assert shown(tmp_path / "a.mkv")[:7] == [0, 2, 2, 2, 2, 3, 4]


@pytest.mark.parametrize("suffix", ["mkv", "mov"])
def test_a_last_picture_that_is_held_ends_a_whole_video(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    counting(path, [n / 25 for n in range(20)], Fraction(1, 1000), held=0.6)

    pictures = read_video(path)[:, 0, 0, 0] // 4

    assert pictures.tolist() == [*range(20), *[19] * 14]


def test_resampling_is_exact_on_fractions():
    timed = [(Fraction(n, 30), Fraction(1, 30), n) for n in range(30)]

    assert list(resample_25fps(timed)) == [int(k * 30 / 25) for k in range(25)]


def test_rotation_of_phones_is_undone(tmp_path):
    frames = np.zeros((3, 32, 64, 3), np.uint8)
    frames[:, :, :20] = 255
    write_video(tmp_path / "a.mp4", frames)
    content = bytearray((tmp_path / "a.mp4").read_bytes())
    matrix = content.index(b"tkhd") + 4 + 40
    one, minus_one = (0x10000).to_bytes(4, "big"), (0xFFFF0000).to_bytes(4, "big")
    content[matrix : matrix + 20] = bytes(4) + one + bytes(4) + minus_one + bytes(4)

    upright = read_video(bytes(content))

    assert upright.shape == (3, 64, 32, 3)
    assert upright[0, 5].mean() > 200 > 50 > upright[0, -5].mean()  # left goes up: clockwise


def test_random_access_equals_sequential_decoding():
    video = encode_video(drawn(31), crf=14, gop=5, audio=np.zeros(31 * 640, np.int16))
    frames = read_video(video)
    indices = [30, 0, 7, 7, 4, 5, 29]

    assert np.array_equal(decode_frames(video, indices), frames[indices])
    with pytest.raises(MediaError, match="31"):
        decode_frames(video, [31])


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "empty"), (b"no video at all" * 99, "not a readable video"), (None, "not found")],
)
def test_unreadable_files_are_named(tmp_path, content, words):
    path = tmp_path / "broken.mp4"
    if content is not None:
        path.write_bytes(content)

    for read in (probe, read_video, lambda video: read_audio(video, 5)):
        with pytest.raises(MediaError, match=f"broken.mp4.*{words}"):
            read(path)


def with_zeroed_packets(content: bytes, share: float = 1.0) -> bytes:
    """An mp4 whose pictures and sound are lost, from the front on, and whose index is whole."""
    start = content.index(b"mdat") + 4
    end = start - 8 + int.from_bytes(content[start - 8 : start - 4], "big")
    lost = int((end - start) * share)
    return content[:start] + bytes(lost) + content[start + lost :]


def test_a_file_of_which_no_packet_decodes_is_named(tmp_path):
    path = tmp_path / "zeroed.mp4"
    write_video(path, drawn(20), audio=np.zeros(20 * SAMPLES_PER_FRAME, np.int16))
    path.write_bytes(with_zeroed_packets(path.read_bytes()))

    for read in (probe, read_video, lambda video: read_audio(video, 20)):
        with pytest.raises(MediaError, match=r"zeroed.mp4: no frame can be decoded"):
            read(path)


def test_packets_that_cannot_be_decoded_are_skipped(tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (20, 64, 64, 3), dtype=np.uint8)
    sound = np.full(20 * SAMPLES_PER_FRAME, 9000, np.int16)
    write_video(tmp_path / "a.mp4", frames, gop=5, audio=sound)
    (tmp_path / "a.mp4").write_bytes(with_zeroed_packets((tmp_path / "a.mp4").read_bytes(), 0.4))

    reader = VideoReader(tmp_path / "a.mp4")
    decoded = list(reader)

    assert probe(tmp_path / "a.mp4").width == 64
    assert 3 < len(decoded) < 20
    assert "corrupt" in reader.damage
    assert read_audio(tmp_path / "a.mp4", len(decoded)).shape == (len(decoded) * SAMPLES_PER_FRAME,)


def test_sound_only_and_header_only_files_are_named(tmp_path):
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        sound = container.add_stream("aac", rate=16000)
        sound.layout = "mono"
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 3200), np.int16), "s16", "mono")
        frame.sample_rate = 16000
        container.mux(sound.encode(frame))
        container.mux(sound.encode(None))
    write_video(tmp_path / "whole.mp4", drawn(10))
    whole = (tmp_path / "whole.mp4").read_bytes()
    (tmp_path / "header.mp4").write_bytes(whole[: whole.index(b"mdat") + 8])

    with pytest.raises(MediaError, match=r"sound.mp4: no video stream"):
        read_video(tmp_path / "sound.mp4")
    with pytest.raises(MediaError, match=r"header.mp4"):
        read_video(tmp_path / "header.mp4")


@pytest.mark.parametrize("lossless", [False, True])
def test_a_cut_off_video_gives_what_is_there_and_says_so(tmp_path, lossless):
    frames = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), dtype=np.uint8)
    write_video(tmp_path / "a.mp4", frames, gop=5, lossless=lossless)
    content = (tmp_path / "a.mp4").read_bytes()
    (tmp_path / "a.mp4").write_bytes(content[: len(content) * 2 // 3])

    reader = VideoReader(tmp_path / "a.mp4")
    decoded = list(reader)

    assert 10 < len(decoded) < 40
    assert reader.damage
    with pytest.raises(MediaError, match=r"a.mp4: damaged: "):
        read_video(tmp_path / "a.mp4")


def with_edit_list(content: bytes, first: int, frames: int) -> bytes:
    """An mp4 of 25 fps that shows some of its frames only, as after a cut without encoding anew."""
    place = content.index(b"elst") + 12
    ticks = int.from_bytes(content[content.index(b"mdhd") + 16 :][:4], "big") // 25
    length, start = (frames * 40).to_bytes(4, "big"), (first * ticks).to_bytes(4, "big")
    return content[:place] + length + start + content[place + 8 :]


@pytest.mark.parametrize(("first", "share"), [(0, 0.3), (25, 0.8)])
def test_frames_that_an_edit_list_leaves_out_are_not_missed(tmp_path, first, share):
    noise = np.random.default_rng(0).integers(0, 256, (50, 64, 64, 3), dtype=np.uint8)
    path = tmp_path / "a.mp4"
    write_video(path, noise)
    whole = read_video(path)
    trimmed = with_edit_list(path.read_bytes(), first, 25)

    shown = read_video(trimmed)
    cut = VideoReader(trimmed[: int(len(trimmed) * share)])
    num_cut = len(list(cut))

    assert np.array_equal(shown, whole[first : first + 25])
    assert 3 < num_cut < 25
    assert "cut off after" in cut.damage


def with_cover_first(path) -> None:
    """A film of 20 noisy frames after its cover picture: the header, then the data."""
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        streams = [container.add_stream(name, rate=25) for name in ("libx264", "mjpeg")]
        for stream, pixels in zip(streams, ("yuv420p", "yuvj420p"), strict=True):
            stream.width, stream.height, stream.pix_fmt = 64, 64, pixels
        streams[1].disposition = Disposition.attached_pic
        noise = np.random.default_rng(0).integers(0, 256, (20, 64, 64, 3), dtype=np.uint8)
        for stream, pictures in zip(streams, (noise, noise[:1]), strict=True):
            for number, picture in enumerate(pictures):
                frame = av.VideoFrame.from_ndarray(picture).reformat(format=stream.pix_fmt)
                frame.pts = number
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    data = path.read_bytes()  # the muxer puts the cover, in udta, behind the film's trak
    trak, udta = data.index(b"trak") - 4, data.index(b"udta") - 4
    end = udta + int.from_bytes(data[udta : udta + 4], "big")
    path.write_bytes(data[:trak] + data[udta:end] + data[trak:udta] + data[end:])


def test_damage_is_that_of_the_film_not_of_its_cover_picture(tmp_path):
    path = tmp_path / "a.mp4"
    with_cover_first(path)
    whole = VideoReader(path)
    num_whole = len(list(whole))
    path.write_bytes(path.read_bytes()[:-8000])
    cut = VideoReader(path)
    num_cut = len(list(cut))

    assert (num_whole, whole.damage) == (20, None)
    assert 3 < num_cut < 20
    assert "of 20 frames" in cut.damage


def test_a_failed_write_leaves_nothing_behind(tmp_path):
    def interrupted():
        yield from drawn(3)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_video(tmp_path / "a.mp4", interrupted())
    with pytest.raises(MediaError, match="even sides"):
        write_video(tmp_path / "b.mp4", drawn(2, 33))
    with pytest.raises(MediaError, match="no frames"):
        write_video(tmp_path / "c.mp4", [])
    with pytest.raises(MediaError, match="samples of sound"):
        write_video(tmp_path / "d.mp4", drawn(3), audio=np.zeros(5, np.int16))

    assert list(tmp_path.iterdir()) == []


def test_playlists_are_not_opened(tmp_path):
    write_video(tmp_path / "secret.mp4", drawn(3))
    (tmp_path / "list.mp4").write_text("ffconcat version 1.0\nfile secret.mp4\n")

    with pytest.raises(MediaError, match=r"list.mp4: not a readable video"):
        read_video(tmp_path / "list.mp4")
