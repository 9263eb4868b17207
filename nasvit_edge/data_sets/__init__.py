"""Images: the bundled ones, Fashion-MNIST, CIFAR, and folders of image files, in memory or as files."""

from nasvit_edge.data_sets.fashion import (
    BUNDLED,
    CALIBRATION_IMAGES,
    FASHION_LABELS,
    FASHION_MNIST,
    TEST_IMAGES,
    VALIDATION_IMAGES,
    bundled,
    bundled_as_stored,
    fashion_mnist,
    fashion_mnist_splits,
    has_bundled,
    np_order,
    write_bundled,
)
from nasvit_edge.data_sets.folders import unlabelled
from nasvit_edge.data_sets.sets import FileSet, Images, ImageSet, prepare
from nasvit_edge.data_sets.splits import (
    Labelled,
    calibration_images,
    check,
    chosen,
    classes,
    load_images,
    split_to_judge,
    training_splits,
)
from nasvit_edge.data_sets.trained_on import Overlap, TrainedOn, overlap, trained_on

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
    "Overlap",
    "TrainedOn",
    "bundled",
    "bundled_as_stored",
    "calibration_images",
    "check",
    "chosen",
    "classes",
    "fashion_mnist",
    "fashion_mnist_splits",
    "has_bundled",
    "load_images",
    "np_order",
    "overlap",
    "prepare",
    "split_to_judge",
    "trained_on",
    "training_splits",
    "unlabelled",
    "write_bundled",
]
