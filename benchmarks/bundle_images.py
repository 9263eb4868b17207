"""Make the bundled image file from the full Fashion-MNIST: python benchmarks/bundle_images.py

512 calibration and 1,000 validation images from the training set (never trained on: training takes the
rest), and 2,000 test images.
"""

from nasvit_edge import files
from nasvit_edge.data_sets import write_bundled

if __name__ == "__main__":
    path = files.data("images", "fashion-mnist.npz")
    write_bundled(path)
    print(f"wrote {path}: {path.stat().st_size / 1e6:.2f} MB")
