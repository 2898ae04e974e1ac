"""Text on the command line → sound and phoneme events on standard output, by espeak-ng.

Run as a program, once for each sentence: the library keeps state between sentences, so that the
same text would sound different the second time. Needs the standard library only, to start fast.
"""

import ctypes
import json
import sys

# Numbers of espeak-ng's C interface (speak_lib.h).
AUDIO_SYNCHRONOUS = 2
PHONEME_EVENTS_IPA = 3
EVENT_END, EVENT_PHONEME = 0, 7
POSITION_CHARACTER, TEXT_UTF8 = 1, 1
RATE, VOLUME, PITCH, RANGE = 1, 2, 3, 4
BUFFER_MILLISECONDS = 400


class Value(ctypes.Union):
    """What an event carries."""

    _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("text", ctypes.c_char * 8)]


class Event(ctypes.Structure):
    """espeak_EVENT."""

    _fields_ = [
        ("type", ctypes.c_int),
        ("identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),  # milliseconds
        ("sample", ctypes.c_int),
        ("user", ctypes.c_void_p),
        ("value", Value),
    ]


CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(Event)
)


def speak(request: dict) -> tuple[dict, bytes]:
    """Head ("rate" in hertz, "phonemes" as [seconds, IPA], or "error") and 16-bit sound."""
    try:
        library = ctypes.CDLL(request["library"])
    except OSError as error:
        return {"error": f"its library cannot be loaded: {error}"}, b""
    rate = library.espeak_Initialize(
        AUDIO_SYNCHRONOUS, BUFFER_MILLISECONDS, request["data"].encode(), PHONEME_EVENTS_IPA
    )
    if rate <= 0:
        return {"error": f"it does not start with the data in {request['data']}"}, b""
    pieces, phonemes = [], []

    def record(wave: ctypes.Array, count: int, events: ctypes.Array) -> int:
        if count > 0:
            pieces.append(ctypes.string_at(wave, 2 * count))
        index = 0
        while events[index].type != EVENT_END:
            if events[index].type == EVENT_PHONEME:
                sound = events[index].value.text.decode("utf8", "ignore")
                phonemes.append((events[index].audio_position / 1000, sound))
            index += 1
        return 0

    callback = CALLBACK(record)
    library.espeak_SetSynthCallback(callback)
    if library.espeak_SetVoiceByName(request["voice"].encode()) != 0:
        return {"error": f"it has no voice '{request['voice']}'"}, b""
    settings = {RATE: "rate", VOLUME: "volume", PITCH: "pitch", RANGE: "range"}
    for parameter, name in settings.items():
        library.espeak_SetParameter(parameter, request[name], 0)
    text = request["text"].encode()
    library.espeak_Synth(text, len(text) + 1, 0, POSITION_CHARACTER, 0, TEXT_UTF8, None, None)
    library.espeak_Synchronize()
    if not pieces:
        return {"error": f"it said nothing for {request['text']!r}"}, b""
    return {"rate": rate, "phonemes": phonemes}, b"".join(pieces)


if __name__ == "__main__":
    head, sound = speak(json.loads(sys.argv[1]))
    sys.stdout.buffer.write(json.dumps(head).encode() + b"\n" + sound)
