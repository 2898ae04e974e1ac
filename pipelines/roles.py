"""Options of `fixtalk animate` → what moves lips, head and expression, or why nothing can."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from fixtalk.drivers import COMPONENTS
from fixtalk.speech import LEVELS, strength_of
from pipelines.config import StageConfig

SPEECH, EMOTION = "speech", "emotion"  # what moves a component if no clip does
Mover = Path | str


class AnimateConfig(StageConfig):
    """Who is animated by what, and how."""

    model: Path = Field(description="folder of a trained model")
    source: Path = Field(description="picture, or video whose first frame is taken")
    driving: Path | None = Field(None, description="clip whose lips, pose, expression are taken")
    audio: Path | None = Field(None, description="speech and sound track; None: driving's track")
    lips: Literal["audio", "driving"] = Field("audio", description="which one, if both are given")
    pose: Path | Literal["still", "natural"] | None = Field(
        None, description="clip, or drawn to the speech; None: driving's"
    )
    expression: Path | Literal["still", "heard"] | None = Field(
        None, description="clip, or as the speech sounds; None: driving's"
    )
    emotion: str | None = Field(None, description="expression by name, held; mood of speaking lips")
    level: float | None = Field(None, description="of the emotion, 1 to 3; None: 2")
    blink: bool = Field(False, description="the eyes close now and then")
    seed: int = Field(0, ge=0, lt=2**63, description="of a natural pose and of blinks")
    out: Path = Field(description="mp4 to write")
    lip_gain: float = Field(1.0, ge=0, le=10, description="times the lips' motion; 0: own")
    pose_gain: float = Field(1.0, ge=0, le=10, description="the same of the head")
    expression_gain: float = Field(1.0, ge=0, le=10, description="the same of the expression")
    relative: bool = Field(False, description="motion since the driver's first frontal frame")
    smooth: bool = Field(False, description="calm the coefficients by a one-euro filter")
    paste_back: bool = Field(False, description="the whole source picture, not the face's square")
    face: int = Field(1, ge=1, description="of the source's faces, 1 is the largest")
    mark: bool = Field(True, description="say in the file that it is AI-generated")
    batch: int = Field(8, ge=1, description="frames the model sees at once")

    @property
    def gains(self) -> dict[str, float]:
        """Of each component."""
        return {name: getattr(self, f"{name}_gain") for name in COMPONENTS}

    @property
    def strength(self) -> float:
        """Level of the emotion."""
        return float(LEVELS[1] if self.level is None else self.level)


def roles(config: AnimateConfig) -> dict[Mover, tuple[str, ...]]:
    """What moves something, the one that sets the length first, and what it moves.

    Raises:
        ValueError: options that contradict one another, or nothing moves.
    """
    _check(config)
    speech_moves_lips = config.audio and config.lips == "audio"
    movers = {
        "lip": SPEECH if speech_moves_lips else config.driving,
        "pose": SPEECH if config.pose == "natural" else config.pose or config.driving,
        "expression": _mover_of_expression(config),
    }
    cast: dict[Mover, tuple[str, ...]] = {}
    for name, mover in movers.items():
        if mover not in (None, "still"):
            cast[mover] = (*cast.get(mover, ()), name)
    if not cast:
        raise ValueError(
            "nothing moves: give --driving or --audio, or a clip as --pose or --expression"
        )
    if set(cast) == {EMOTION}:
        raise ValueError(
            "--emotion holds an expression, it does not say how long: add --audio, --driving or "
            "a clip as --pose"
        )
    moved = [name for names in cast.values() for name in names]
    for name, gain in config.gains.items():
        if name not in moved and gain != 1:
            raise ValueError(f"--{name}-gain {gain}: nothing moves the {name}")
    return cast


def _mover_of_expression(config: AnimateConfig) -> Mover | None:
    if config.emotion:
        return EMOTION
    return SPEECH if config.expression == "heard" else config.expression or config.driving


def _check(config: AnimateConfig) -> None:
    """Refuse what can be seen to be wrong before a model is loaded."""
    inputs = [config.source, config.driving, config.pose, config.expression, config.audio]
    if config.out.suffix.lower() != ".mp4":
        raise ValueError(f"{config.out}: the video is an mp4, give it a name that ends in .mp4")
    if config.out.is_dir():
        raise ValueError(f"{config.out}: is a folder; name a file")
    if config.out.resolve() in {Path(path).resolve() for path in inputs if path}:
        raise ValueError(f"{config.out}: would replace one of the inputs; choose another name")
    if config.lips == "driving" and not config.driving:
        raise ValueError("--lips driving: there is no clip to take them from, add --driving")
    for option in ("pose", "expression"):
        if (value := getattr(config, option)) in ("natural", "heard") and not config.audio:
            raise ValueError(f"--{option} {value}: is made from speech, add --audio")
    if config.emotion and config.expression:
        raise ValueError(
            f"--emotion {config.emotion} and --expression {config.expression}: choose one"
        )
    if config.blink and isinstance(clip := _mover_of_expression(config), Path):
        raise ValueError(
            f"--blink: the expression is that of {clip}, which blinks by itself; add --emotion or "
            "--expression still"
        )
    if config.emotion:
        strength_of(config.emotion, config.strength)
    elif config.level is not None:
        raise ValueError(f"--level {config.level:g}: of no emotion, add --emotion")
