"""The two widgets that Qt does not have: a picture before and after, and the overview of a large
photo.
"""

from __future__ import annotations

from part import RGB, Place
from PySide6.QtCore import QRect, QSize, Qt, Signal
from PySide6.QtGui import QColor, QImage, QKeyEvent, QMouseEvent, QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QSizePolicy, QWidget


def image_of(pixels: RGB) -> QImage:
    """The pixels, uint8 H×W×3, as Qt's image."""
    height, width = pixels.shape[:2]
    return QImage(pixels.tobytes(), width, height, 3 * width, QImage.Format.Format_RGB888).copy()


def fitted(size: QSize, widget: QWidget) -> QRect:
    """The largest rectangle of a picture's shape in the middle of a widget."""
    fitting = size.scaled(widget.size(), Qt.AspectRatioMode.KeepAspectRatio)
    corner = (widget.width() - fitting.width()) // 2, (widget.height() - fitting.height()) // 2
    return QRect(*corner, fitting.width(), fitting.height())


class Comparison(QWidget):
    """Before left of the line, after right of it. The mouse, and the arrow keys, move the line."""

    def __init__(self) -> None:
        super().__init__()
        self.before = QImage()
        self.after = QImage()
        self.split = 0.5
        self.setMinimumSize(320, 320)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setAccessibleName("Before left of the line, after right of it")
        self.setToolTip("Drag the line, or move it with the arrow keys")

    def show_images(self, before: QImage, after: QImage) -> None:
        """Show another pair. before: of the same shape; it is enlarged."""
        self.before = before
        self.after = after
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802
        """Paint both."""
        if self.after.isNull():
            return
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
        place = fitted(self.after.size(), self)
        line = place.left() + round(self.split * place.width())
        painter.drawImage(place, self.after)
        painter.setClipRect(QRect(place.left(), place.top(), line - place.left(), place.height()))
        painter.drawImage(place, self.before)
        painter.setClipping(False)
        for colour, width in (("black", 4), ("white", 2)):
            painter.setPen(QPen(QColor(colour), width))
            painter.drawLine(line, place.top(), line, place.bottom())

    def mousePressEvent(self, event: QMouseEvent) -> None:  # noqa: N802
        """Move the line to the mouse."""
        place = fitted(self.after.size(), self)
        if place.width():
            self._move((event.position().x() - place.left()) / place.width())

    mouseMoveEvent = mousePressEvent  # noqa: N815

    def keyPressEvent(self, event: QKeyEvent) -> None:  # noqa: N802
        """Move the line."""
        step = {
            Qt.Key.Key_Left: -0.05,
            Qt.Key.Key_Right: 0.05,
            Qt.Key.Key_Home: -1,
            Qt.Key.Key_End: 1,
        }
        if event.key() in step:
            self._move(self.split + step[Qt.Key(event.key())])
        else:
            super().keyPressEvent(event)

    def _move(self, split: float) -> None:
        self.split = min(max(split, 0.0), 1.0)
        self.update()


class Overview(QWidget):
    """A large photo, small, with a frame around the part that is shown. A click or an arrow key
    moves it.
    """

    moved = Signal(float, float)  # the part's middle, in pixels of the photo

    def __init__(self) -> None:
        super().__init__()
        self.photo = QImage()
        self.place = Place(0, 0, 1, 1)
        self.setFixedHeight(180)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setAccessibleName("The part that is shown")
        self.setToolTip("Click, or use the arrow keys, to show another part")

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802
        """Paint the photo and the frame."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
        around = fitted(self.photo.size(), self)
        painter.drawImage(around, self.photo)
        shrink = around.width() / max(self.photo.width(), 1)
        frame = QRect(
            around.left() + round(self.place.left * shrink),
            around.top() + round(self.place.top * shrink),
            round(self.place.width * shrink),
            round(self.place.height * shrink),
        )
        for colour, width in (("black", 4), ("white", 2)):
            painter.setPen(QPen(QColor(colour), width))
            painter.drawRect(frame)

    def mousePressEvent(self, event: QMouseEvent) -> None:  # noqa: N802
        """Show the part around the mouse."""
        around = fitted(self.photo.size(), self)
        enlarge = self.photo.width() / max(around.width(), 1)
        point = event.position()
        self.moved.emit((point.y() - around.top()) * enlarge, (point.x() - around.left()) * enlarge)

    def keyPressEvent(self, event: QKeyEvent) -> None:  # noqa: N802
        """Show the part beside this one."""
        steps = {
            Qt.Key.Key_Up: (-1, 0),
            Qt.Key.Key_Down: (1, 0),
            Qt.Key.Key_Left: (0, -1),
            Qt.Key.Key_Right: (0, 1),
        }
        if event.key() not in steps:
            super().keyPressEvent(event)
            return
        down, right = steps[Qt.Key(event.key())]
        place = self.place
        self.moved.emit(
            place.top + place.height * (0.5 + down / 4),
            place.left + place.width * (0.5 + right / 4),
        )
