"""Images: the bundled ones, Fashion-MNIST, CIFAR, and folders of image files, in memory or as files."""

from nasvit_edge.data_sets.fashion import (
    BUNDLED,
    CALIBRATION_IMAGES,
    FASHION_LABELS,
    FASHION_MNIST,
    TEST_IMAGES,
    VALIDATION_IMAGES,
    bundled,
    fashion_mnist,
    fashion_mnist_splits,
    has_bundled,
    np_order,
    write_bundled,
)
from nasvit_edge.data_sets.folders import image_folder
from nasvit_edge.data_sets.sets import FileSet, Images, ImageSet, prepare
from nasvit_edge.data_sets.splits import Labelled, check, classes, load_images, training_splits

__all__ = [
    "BUNDLED",
    "CALIBRATION_IMAGES",
    "FASHION_LABELS",
    "FASHION_MNIST",
    "TEST_IMAGES",
    "VALIDATION_IMAGES",
    "FileSet",
    "ImageSet",
    "Images",
    "Labelled",
    "bundled",
    "check",
    "classes",
    "fashion_mnist",
    "fashion_mnist_splits",
    "has_bundled",
    "image_folder",
    "load_images",
    "np_order",
    "prepare",
    "training_splits",
    "write_bundled",
]
