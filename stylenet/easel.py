"""A picture in the making: its run folder, its dashboards, and what it takes to go on after a stop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from stylenet.color import keep_luminance_only
from stylenet.dashboards import Dashboards
from stylenet.descent import Optimizer
from stylenet.errors import ConfigError
from stylenet.gatys import Painter, Scale, State
from stylenet.image import save_image, to_picture, write_atomically
from stylenet.meter import Meter

STATE = "state"  # the file that a run is resumed from: safetensors, under a name that is not taken for a network


class Easel:
    """One descent, watched and kept.

    Args:
        painter: what descends.
        state: where from; changed while painting.
        colors: the photo whose colours the picture keeps, painted in light and dark only; `None`: its own colours.
        folder: the run's.
        every: iterations from one preview to the next.
        keep_previews: each in a file of its own, besides.
        dashboards: of the run.
    """

    def __init__(
        self,
        painter: Painter,
        state: State,
        colors: Image.Image | None,
        folder: Path,
        every: int,
        keep_previews: bool,
        dashboards: Dashboards,
    ) -> None:
        self.painter = painter
        self.state = state
        self.colors = colors
        self.folder = folder
        self.preview = folder / "preview.jpg"
        self.every = every
        self.keep_previews = keep_previews
        self.dashboards = dashboards

    def paint(self, optimizer: Optimizer, learning_rate: float) -> None:
        """Descend to the end; `state` is there at any moment."""
        total = sum(stage.work for stage in self.painter.stages)
        with Meter(total, self._work_done(), self.every) as meter:
            for state, losses in self.painter.paint(self.state, optimizer, learning_rate):
                self.state = state
                self._show(losses, meter)

    def _show(self, losses: Mapping[str, float], meter: Meter) -> None:
        stage, iteration = self.painter.stages[self.state.scale], self.state.iteration
        what = f"{stage.width} x {stage.height} px: iteration {iteration} of {stage.iterations}"
        meter.show(self._work_done(), what, losses)
        self.dashboards.log(losses, self._iterations_done())
        if iteration % self.every == 0 or iteration == stage.iterations:
            self.keep()

    def keep(self) -> None:
        """Write the picture as it is: to look at, and to go on from."""
        save_state(self.state, self.folder)
        picture, step = self.picture(), self._iterations_done()
        save_image(picture, self.preview)
        if self.keep_previews:
            save_image(picture, self.folder / "previews" / f"iteration_{step:05d}.jpg")
        self.dashboards.show(picture, step)

    def picture(self) -> Image.Image:
        """The pixels as a picture, in the colours of the photo where they are kept."""
        picture = to_picture(self.state.pixels.cpu().numpy())
        if self.colors is None:
            return picture
        return keep_luminance_only(picture, self.colors.resize(picture.size, Image.Resampling.LANCZOS))

    def _work_done(self) -> int:
        """In pixels, as `Scale.work`."""
        present = self.painter.stages[self.state.scale]._replace(iterations=self.state.iteration)
        return sum(stage.work for stage in self.painter.stages[: self.state.scale]) + present.work

    def _iterations_done(self) -> int:
        """At all sizes."""
        return sum(stage.iterations for stage in self.painter.stages[: self.state.scale]) + self.state.iteration


def save_state(state: State, folder: Path) -> None:
    """Write what it takes to go on, whole or not at all."""
    places = {"scale": str(state.scale), "iteration": str(state.iteration)}
    write_atomically(folder / STATE, save({"pixels": state.pixels.cpu().contiguous()}, places))


def load_state(folder: Path, stages: Sequence[Scale]) -> State:
    """Read what `save_state` wrote.

    Raises:
        ConfigError: when it is not there, broken, or of a run with other sizes.
    """
    try:
        with safe_open(folder / STATE, "pt") as file:
            places = file.metadata()
            state = State(file.get_tensor("pixels"), int(places["scale"]), int(places["iteration"]))
            stage = stages[state.scale]
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, IndexError) as error:
        raise ConfigError(f"resume={folder} is no folder of a run that can go on: {error}") from None
    if state.pixels.shape != (1, 3, stage.height, stage.width):
        height, width = state.pixels.shape[2:]
        raise ConfigError(
            f"The run to resume stood at {width} x {height} px, where these settings have {stage.width} x "
            f"{stage.height}: resume it with the settings that it was started with."
        )
    return state
