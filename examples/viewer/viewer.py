"""A desktop viewer: open a photo, and every temperature and seed is one movement of a slider away.

    pip install . pyside6-essentials
    python examples/viewer/viewer.py photo.jpg

The photo is encoded once, and a slider only samples again, in a thread. Of a large photo a part
follows the slider; it has the pixels that "Save" writes at that place (of sRGB photos: the screen
ignores other profiles, which the file keeps). Transparent parts are shown white.
"""

from __future__ import annotations

import argparse
import random
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from artist import Artist, Job
from part import RGB, Pixels, Place, as_rgb
from PySide6.QtCore import Qt
from PySide6.QtGui import QCloseEvent, QDragEnterEvent, QDropEvent, QImage, QKeySequence
from PySide6.QtWidgets import (
    QApplication,
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QMainWindow,
    QProgressBar,
    QPushButton,
    QSlider,
    QVBoxLayout,
    QWidget,
)
from widgets import Comparison, Overview, image_of

from srflow_sdk import SRFlowError, Upscaler, read_image

SHOWN = 96  # side of the part that follows the slider, in pixels of the photo
STEPS = 20  # of the slider, for each 1 of τ
MAX_TAU = 1.2
MAX_SEED = 2**64 - 1


class Window(QMainWindow):
    """The window, for as long as its upscaler is open."""

    def __init__(self, upscaler: Upscaler) -> None:
        super().__init__()
        self.scale = upscaler.scale
        self.multiple = upscaler.bundle.manifest.size_multiple
        self.job: Job | None = None
        self.opening: Path | None = None
        self.artist = Artist(upscaler)
        self.artist.opened.connect(self._opened)
        self.artist.drawn.connect(self._show)
        self.artist.saved.connect(lambda job: self._finish(f"{job.target} is written."))
        self.artist.cancelled.connect(self._cancelled)
        self.artist.failed.connect(self._failed)
        self.artist.progressed.connect(self._progress)
        self._build(tau=upscaler.bundle.manifest.default_tau)
        self.artist.start()

    def _build(self, *, tau: float) -> None:
        self.setWindowTitle("SRFlow")
        self.setAcceptDrops(True)
        self.comparison = Comparison()
        self.overview = Overview()
        self.overview.moved.connect(self.move_part)
        self.tau = QSlider(
            Qt.Orientation.Horizontal, maximum=round(MAX_TAU * STEPS), value=round(tau * STEPS)
        )
        self.tau.setAccessibleName("Temperature")
        self.tau_label = QLabel()
        self.seed = QLineEdit("0")
        self.seed.setAccessibleName("Seed")
        self.message = QLabel("Open a photo, or drop one here.", wordWrap=True)
        self.message.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.progress = QProgressBar(visible=False)
        self.another = self._button("&Another", self._take_another)
        self.open = self._button("&Open …", self._ask_open, QKeySequence.StandardKey.Open)
        self.save = self._button("&Save …", self._ask_save, QKeySequence.StandardKey.Save)
        self.cancel = self._button("&Cancel", self.artist.stop)
        self.save.setEnabled(False)
        self.cancel.setVisible(False)
        self.tau.valueChanged.connect(self.draw)
        self.seed.textChanged.connect(self.draw)
        seeds = QHBoxLayout()
        files = QHBoxLayout()
        controls = QVBoxLayout()
        whole = QHBoxLayout()
        for layout, widgets in (
            (seeds, (QLabel("Seed"), self.seed, self.another)),
            (files, (self.open, self.save, self.cancel)),
        ):
            for widget in widgets:
                layout.addWidget(widget)
        for entry in (
            self.tau_label,
            self.tau,
            seeds,
            self.overview,
            files,
            self.progress,
            self.message,
        ):
            if isinstance(entry, QWidget):
                controls.addWidget(entry)
            else:
                controls.addLayout(entry)
        controls.addStretch()
        whole.addWidget(self.comparison, stretch=3)
        whole.addLayout(controls, stretch=2)
        centre = QWidget()
        centre.setLayout(whole)
        self.setCentralWidget(centre)
        self.overview.setVisible(False)
        self._label_tau()

    def _button(self, text: str, action: Any, shortcut: Any = None) -> QPushButton:
        button = QPushButton(text)
        button.clicked.connect(lambda: action())
        if shortcut is not None:
            button.setShortcut(shortcut)
        return button

    def open_photo(self, path: Path) -> None:
        """Read a photo, and show it once it is read. If it cannot be read, a message says why."""
        self.opening = path
        self.message.setText(f"Opening {path.name} …")
        self.progress.setRange(0, 0)
        self.save.setEnabled(False)
        self._busy(True)
        self.artist.read(path)

    def _opened(self, path: Path, photo: Pixels, image: QImage) -> None:
        if path is self.opening:
            self.opening = None
            self._busy(False)
            self.show_photo(path, photo, image)

    def _failed(self, what: Job | Path, why: str) -> None:
        if self.opening is None or what is self.opening:
            self.opening = None
            self._finish(why)

    def show_photo(self, path: Path, photo: Pixels, image: QImage) -> None:
        """Show a photo that was read. image: the same for the screen."""
        height, width = photo.shape[:2]
        place = self._place(photo, height / 2, width / 2)
        self.job = Job(photo=photo, source=path, place=place, tau=0, seed=0)
        self.overview.setVisible((place.height, place.width) != (height, width))
        self.overview.photo = image
        self.overview.place = place
        self.overview.update()
        self.setWindowTitle(f"{path.name} – SRFlow")
        self.draw()

    def move_part(self, y: float, x: float) -> None:
        """Show the part around a place of the photo."""
        if self.job is not None:
            self.job = replace(self.job, place=self._place(self.job.photo, y, x))
            self.overview.place = self.job.place
            self.overview.update()
            self.draw()

    def draw(self) -> None:
        """Draw with the settings as they are."""
        self._label_tau()
        if (job := self._wanted()) is not None:
            self._work(job, "Drawing …")

    def save_to(self, target: Path) -> None:
        """Write the whole photo, enlarged."""
        if (job := self._wanted()) is not None:
            self.progress.setRange(0, 0)
            self._work(replace(job, target=target), f"Drawing the whole photo into {target.name} …")

    def _work(self, job: Job, says: str) -> None:
        self.message.setText(says)
        self.save.setEnabled(False)
        self._busy(job.target is not None, cancellable=True)
        self.artist.ask(job)

    def _wanted(self) -> Job | None:
        """The job of the settings; None, with a message, if they are wrong."""
        text = self.seed.text().strip()
        if not (text.isascii() and text.isdigit() and int(text) <= MAX_SEED):
            self.message.setText(
                f"The seed is “{text}”: it must be a whole number from 0 to {MAX_SEED}."
            )
            return None
        return (
            None
            if self.job is None
            else replace(self.job, tau=self.tau.value() / STEPS, seed=int(text))
        )

    def _place(self, photo: Pixels, y: float, x: float) -> Place:
        height, width = photo.shape[:2]
        return Place.around(y, x, side=SHOWN, height=height, width=width, multiple=self.multiple)

    def _show(self, job: Job, picture: RGB) -> None:
        if (
            self.opening is not None
            or self.job is None
            or job.photo is not self.job.photo
            or job.place != self.job.place
        ):
            return  # another photo or part was chosen meanwhile
        place = job.place
        part = job.photo[
            place.top : place.top + place.height, place.left : place.left + place.width
        ]
        before = image_of(as_rgb(part))
        self.comparison.show_images(before, image_of(picture))
        self._finish(
            f"τ {job.tau:g}, seed {job.seed}: {picture.shape[1]}×{picture.shape[0]} pixels"
        )

    def _progress(self, done: int, total: int) -> None:
        self.progress.setRange(0, total)
        self.progress.setValue(done)

    def _cancelled(self, job: Job) -> None:
        if job.target is not None:
            self._finish(f"Cancelled: {job.target.name} was not written.")

    def _finish(self, says: str) -> None:
        self.message.setText(says)
        self._busy(False)
        self.save.setEnabled(self.job is not None)

    def _busy(self, busy: bool, *, cancellable: bool = False) -> None:
        """While a file is read or written, nothing else is drawn; writing can be cancelled."""
        self.progress.setVisible(busy)
        self.cancel.setVisible(busy and cancellable)
        self.setAcceptDrops(not busy)
        for widget in (self.tau, self.seed, self.another, self.open, self.overview):
            widget.setEnabled(not busy)

    def _label_tau(self) -> None:
        self.tau_label.setText(f"Temperature τ {self.tau.value() / STEPS:.2f}")

    def _take_another(self) -> None:
        self.seed.setText(str(random.getrandbits(32)))

    def _ask_open(self) -> None:
        name, _ = QFileDialog.getOpenFileName(self, "Open a photo")
        if name:
            self.open_photo(Path(name))

    def _ask_save(self) -> None:
        if self.job is not None:
            suggested = self.job.source.with_name(f"{self.job.source.stem}_x{self.scale}.png")
            name, _ = QFileDialog.getSaveFileName(
                self, "Save the whole photo, enlarged", str(suggested)
            )
            if name:
                self.save_to(Path(name))

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:  # noqa: N802
        """Take files."""
        if event.mimeData().hasUrls():
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent) -> None:  # noqa: N802
        """Open the first file."""
        self.open_photo(Path(event.mimeData().urls()[0].toLocalFile()))

    def closeEvent(self, event: QCloseEvent) -> None:  # noqa: N802
        """End the thread, too."""
        self.artist.close()
        super().closeEvent(event)


def main() -> None:
    """Read the command line and show the window until it is closed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("photo", type=Path, nargs="?", help="photo to open")
    parser.add_argument(
        "--model",
        default="x4-small",
        help="bundle, or an embedded model's name  [default: x4-small]",
    )
    arguments = parser.parse_args()
    try:
        with Upscaler(arguments.model) as upscaler:
            app = QApplication(sys.argv[:1])
            window = Window(upscaler)
            try:
                if arguments.photo is not None:
                    photo = read_image(arguments.photo).pixels  # its errors end the program
                    window.show_photo(arguments.photo, photo, image_of(as_rgb(photo)))
                window.resize(1000, 640)
                window.show()
                app.exec()
            finally:
                window.artist.close()
    except SRFlowError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
