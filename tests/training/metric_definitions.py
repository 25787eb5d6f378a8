"""The metrics as their publications define them, in NumPy and float64. Images are 3×H×W in [0, 1], with even sides."""

import numpy as np
from scipy.ndimage import correlate, correlate1d


def luma(image):
    return np.tensordot([0.299, 0.587, 0.114], image, 1)


def halved(channel):
    height, width = channel.shape
    return channel.reshape(height // 2, 2, width // 2, 2).mean(axis=(1, 3))


def similarity(one, other, constant):
    return (2 * one * other + constant) / (one**2 + other**2 + constant)


def gmsd(image, reference):
    """Xue et al., 2014: the deviation of the similarity of gradient magnitudes, on halved luma, c = 170 of 255²."""
    prewitt = np.outer([1, 1, 1], [1, 0, -1]) / 3

    def gradient(image):
        small = halved(luma(image))
        return np.hypot(*(correlate(small, kernel, mode="constant") for kernel in (prewitt, prewitt.T)))

    return similarity(gradient(image), gradient(reference), 170 / 255**2).std()


def haarpsi(image, reference):
    """Reisenhofer et al., 2018: C = 30, α = 4.2, three Haar scales of halved luma, the third as weight, and I and Q."""
    yiq = np.array([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])
    one, other = ([halved(channel) for channel in np.tensordot(yiq, 255 * x, 1)] for x in (image, reference))

    def window(channel, kernel):  # as MATLAB's conv2(…, "same") aligns even kernels
        before = kernel.shape[0] // 2 - 1
        padded = np.pad(channel, (before, kernel.shape[0] - 1 - before))
        return np.einsum("ijkl,kl", np.lib.stride_tricks.sliding_window_view(padded, kernel.shape), kernel)

    similarities, weights = [], []
    for transposed in (False, True):
        coefficients = []
        for size in (2, 4, 8):
            haar = np.repeat([1.0, -1.0], size // 2)[:, None] * np.ones(size) / size
            haar = haar.T if transposed else haar
            coefficients.append([np.abs(window(x[0], haar)) for x in (one, other)])
        similarities.append(np.mean([similarity(*coefficients[scale], 30) for scale in (0, 1)], axis=0))
        weights.append(np.maximum(*coefficients[2]))
    mean = np.ones((2, 2)) / 4
    colours = [[np.abs(window(x[channel], mean)) for x in (one, other)] for channel in (1, 2)]
    similarities.append(np.mean([similarity(*colour, 30) for colour in colours], axis=0))
    weights.append((weights[0] + weights[1]) / 2)
    logistic = 1 / (1 + np.exp(-4.2 * np.array(similarities)))
    score = (logistic * weights).sum() / np.sum(weights)
    return (np.log(score / (1 - score)) / 4.2) ** 2


def ms_ssim(image, reference):
    """Wang et al., 2003: five scales, Gaussian 11×11 windows (σ 1.5) where they fit, the mean over channels."""
    gaussian = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    gaussian /= gaussian.sum()

    def windowed(channel):
        return correlate1d(correlate1d(channel, gaussian, axis=0), gaussian, axis=1)[5:-5, 5:-5]

    found = []
    for one, other in zip(image, reference, strict=True):
        product = 1.0
        for scale, weight in enumerate((0.0448, 0.2856, 0.3001, 0.2363, 0.1333)):
            mean_one, mean_other = windowed(one), windowed(other)
            variances = windowed(one**2) - mean_one**2 + windowed(other**2) - mean_other**2
            covariance = windowed(one * other) - mean_one * mean_other
            similarities = (2 * covariance + 0.03**2) / (variances + 0.03**2)
            if scale == 4:
                similarities *= similarity(mean_one, mean_other, 0.01**2)
            product *= max(similarities.mean(), 0) ** weight
            if scale < 4:
                one, other = halved(one), halved(other)
        found.append(product)
    return np.mean(found)


_LINEAR_TO_XYZ = np.array(
    [
        [10135552 / 24577794, 8788810 / 24577794, 4435075 / 24577794],
        [2613072 / 12288897, 8788810 / 12288897, 887015 / 12288897],
        [1425312 / 73733382, 8788810 / 73733382, 70074185 / 73733382],
    ]
)
_WHITE = _LINEAR_TO_XYZ.sum(axis=1)[:, None, None]  # D65


def flip(image, reference, *, degree):
    """LDR-FLIP of sRGB images at so many pixels per degree, H×W (Andersson et al., 2020, sections 4 and 5)."""
    one, other = _opponent(image), _opponent(reference)
    colours = _redistributed(_hyab(_hunt(_as_seen(one, degree)), _hunt(_as_seen(other, degree))))
    grey = [(x[0] + 16) / 116 for x in (one, other)]
    features = np.maximum(
        *(np.abs(np.subtract(*(_feature(x, degree, point=point) for x in grey))) for point in (False, True))
    )
    return colours ** (1 - np.clip(features / np.sqrt(2), 0, 1) ** 0.5)


def _opponent(image):
    """sRGB → YCxCz."""
    linear = np.where(image <= 0.04045, image / 12.92, ((image + 0.055) / 1.055) ** 2.4)
    x, y, z = np.tensordot(_LINEAR_TO_XYZ, linear, 1) / _WHITE
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def _as_seen(opponent, degree):
    """YCxCz → filtered by the eye's contrast sensitivity → linear RGB in [0, 1]."""
    radius = int(np.ceil(3 * np.sqrt(0.04 / (2 * np.pi**2)) * degree))
    x = np.arange(-radius, radius + 1) / degree
    square = x[:, None] ** 2 + x**2
    sums = ([(1, 0.0047)], [(1, 0.0053)], [(34.1, 0.04), (13.5, 0.025)])
    filtered = []
    for channel, terms in zip(opponent, sums, strict=True):
        kernel = sum(a * np.sqrt(np.pi / b) * np.exp(-(np.pi**2) * square / b) for a, b in terms)
        filtered.append(correlate(channel, kernel / kernel.sum(), mode="nearest"))
    y = (filtered[0] + 16) / 116
    xyz = np.stack([y + filtered[1] / 500, y, y - filtered[2] / 200]) * _WHITE
    return np.clip(np.tensordot(np.linalg.inv(_LINEAR_TO_XYZ), xyz, 1), 0, 1)


def _hunt(linear):
    """Linear RGB → L*a*b*, its colours weaker where it is dark (the Hunt effect)."""
    ratio = np.tensordot(_LINEAR_TO_XYZ, linear, 1) / _WHITE
    x, y, z = np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio / (3 * (6 / 29) ** 2) + 4 / 29)
    lightness = 116 * y - 16
    return np.stack([lightness, 0.01 * lightness * 500 * (x - y), 0.01 * lightness * 200 * (y - z)])


def _hyab(one, other):
    difference = one - other
    return np.abs(difference[0]) + np.hypot(difference[1], difference[2])


def _redistributed(distance):
    """Colour distances → [0, 1]: the power 0.7, then 40 % of the largest becomes 0.95."""
    green, blue = (np.eye(3)[channel][:, None, None] for channel in (1, 2))
    largest = _hyab(_hunt(green), _hunt(blue)) ** 0.7
    powered, knee = distance**0.7, 0.4 * largest
    return np.where(powered < knee, 0.95 / knee * powered, 0.95 + (powered - knee) / (largest - knee) * 0.05)


def _feature(grey, degree, *, point):
    """How strong an edge, or a point, is at each pixel."""
    deviation = 0.5 * 0.082 * degree
    radius = int(np.ceil(3 * deviation))
    x = np.arange(-radius, radius + 1)
    gaussian = np.exp(-(x[:, None] ** 2 + x**2) / (2 * deviation**2))
    kernel = ((x**2 / deviation**2 - 1) if point else -x) * gaussian
    kernel = np.where(kernel > 0, kernel / kernel[kernel > 0].sum(), -kernel / kernel[kernel < 0].sum())
    return np.hypot(*(correlate(grey, turned, mode="nearest") for turned in (kernel, kernel.T)))
