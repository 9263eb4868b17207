// Labels the pixels of an image file with an exported Core ML model, on macOS 13 and later:
//
//     swiftc -O -parse-as-library PrepareImage.swift Segment.swift -o segment
//     ./segment model.mlpackage image.jpg overlay.png
//
// In an iOS 16 app add both files and the model, and call `Segmenter(contentsOf:)` and `segment(imageAt:)`.
// Labels, colours, preparation and normalisation are in the model: it takes RGB bytes and gives int32 labels, or logits.

import CoreGraphics
import CoreML
import Foundation
import ImageIO
import UniformTypeIdentifiers

struct SegmenterFailure: LocalizedError {
    let errorDescription: String?

    init(_ text: String) {
        errorDescription = text
    }
}

/// Of `length` pixels the one at the centre of pixel `place` of `size`.
func nearest(place: Int, length: Int, size: Int) -> Int {
    return (2 * place + 1) * length / (2 * size)
}

/// Where between two of `length` values one of `size` lies.
struct Between {
    let low: Int
    let high: Int
    let share: Float

    init(place: Int, length: Int, size: Int) {
        let middle = (Double(place) + 0.5) * Double(length) / Double(size) - 0.5
        let at = min(max(middle, 0), Double(length - 1))
        low = Int(at)
        high = min(low + 1, length - 1)
        share = Float(at - Double(low))
    }
}

/// The largest class of each pixel of logits (classes, height, width) resized to another size.
func largest(logits: [Float], height: Int, width: Int, newHeight: Int, newWidth: Int) -> [Int] {
    let classes = logits.count / (height * width)
    let columns = (0..<newWidth).map { Between(place: $0, length: width, size: newWidth) }
    var labels = [Int](repeating: 0, count: newHeight * newWidth)
    for y in 0..<newHeight {
        let row = Between(place: y, length: height, size: newHeight)
        for x in 0..<newWidth {
            var best = -Float.infinity
            for c in 0..<classes {
                let top = c * height * width + row.low * width
                let bottom = c * height * width + row.high * width
                let column = columns[x]
                let left = logits[top + column.low] * (1 - row.share) + logits[bottom + column.low] * row.share
                let right = logits[top + column.high] * (1 - row.share) + logits[bottom + column.high] * row.share
                let value = left * (1 - column.share) + right * column.share
                if value > best {
                    best = value
                    labels[y * newWidth + x] = c
                }
            }
        }
    }
    return labels
}

/// The classes that occur with their share of the pixels, the largest first, the lower index first where equal.
func classShares(labels: [Int], names: [String]) -> [(label: String, share: Double)] {
    var counts = [Int](repeating: 0, count: names.count)
    for label in labels {
        counts[label] += 1
    }
    let order = names.indices.filter { counts[$0] > 0 }.sorted { first, second in
        if counts[first] == counts[second] {
            return first < second
        }
        return counts[first] > counts[second]
    }
    return order.map { (label: names[$0], share: Double(counts[$0]) / Double(labels.count)) }
}

final class Segmenter {
    struct Outcome {
        let labels: [Int]  // height * width, of the model's size
        let overlay: CGImage
        let shares: [(label: String, share: Double)]
        let milliseconds: Double
    }

    private let model: MLModel
    private let temporary: URL?
    private let names: [String]
    private let palette: [[Int]]
    private let preparation: Preparation

    private var height: Int {
        return preparation.size[0]
    }

    private var width: Int {
        return preparation.size[1]
    }

    /// Loads an .mlpackage, or the .mlmodelc that Xcode makes of one.
    init(contentsOf url: URL) async throws {
        let isCompiled = url.pathExtension == "mlmodelc"
        let compiled = try await isCompiled ? url : MLModel.compileModel(at: url)
        let loaded = try MLModel(contentsOf: compiled)
        let description = loaded.modelDescription
        let defined = description.metadata[MLModelMetadataKey.creatorDefinedKey] as? [String: String]
        guard let text = defined?["nasvit_edge"],
            let about = try? JSONDecoder().decode([String: String].self, from: Data(text.utf8)),
            let labels = about["labels"], let colours = about["palette"]
        else {
            throw SegmenterFailure("\(url.path) is no segmenter that was written by nasvit-edge")
        }
        model = loaded
        temporary = isCompiled ? nil : compiled
        names = try JSONDecoder().decode([String].self, from: Data(labels.utf8))
        palette = try JSONDecoder().decode([[Int]].self, from: Data(colours.utf8))
        preparation = try Preparation.of(about)
    }

    /// Core ML may read the compiled files for as long as the model is used.
    deinit {
        if let temporary {
            try? FileManager.default.removeItem(at: temporary)
        }
    }

    /// The classes of all pixels, and how long the second run took: the first one plans.
    func segment(imageAt url: URL) throws -> Outcome {
        let image = try readImage(at: url, preparation: preparation)
        let feature = MLFeatureValue(pixelBuffer: try pixelBuffer(of: image, preparation: preparation))
        let input = try MLDictionaryFeatureProvider(dictionary: ["image": feature])
        _ = try model.prediction(from: input)
        let start = DispatchTime.now().uptimeNanoseconds
        let output = try model.prediction(from: input)
        let milliseconds = Double(DispatchTime.now().uptimeNanoseconds - start) / 1e6
        let labels = try self.labels(of: output)
        let shares = classShares(labels: labels, names: names)
        return Outcome(
            labels: labels, overlay: try self.overlay(on: image, labels: labels), shares: shares,
            milliseconds: milliseconds)
    }

    /// The model's labels, or the largest of its logits.
    private func labels(of output: MLFeatureProvider) throws -> [Int] {
        if let found = output.featureValue(for: "labels")?.multiArrayValue {
            return (0..<found.count).map { found[$0].intValue }
        }
        guard let found = output.featureValue(for: "logits")?.multiArrayValue else {
            throw SegmenterFailure("the model gives neither labels nor logits")
        }
        let shape = found.shape.map { $0.intValue }  // 1, classes, rows, columns
        let logits = (0..<found.count).map { found[$0].floatValue }
        return largest(logits: logits, height: shape[2], width: shape[3], newHeight: height, newWidth: width)
    }

    /// The image, each pixel mixed half and half with the colour of its class.
    private func overlay(on image: Upright, labels: [Int]) throws -> CGImage {
        var bytes = image.part(left: 0, top: 0, width: image.width, height: image.height)
        for y in 0..<image.height {
            let from = nearest(place: y, length: height, size: image.height) * width
            for x in 0..<image.width {
                let colour = palette[labels[from + nearest(place: x, length: width, size: image.width)]]
                for channel in 0..<3 {
                    let place = 3 * (y * image.width + x) + channel
                    bytes[place] = UInt8((Int(bytes[place]) + colour[channel] + 1) / 2)
                }
            }
        }
        guard let space = CGColorSpace(name: CGColorSpace.sRGB),
            let provider = CGDataProvider(data: Data(bytes) as CFData),
            let made = CGImage(
                width: image.width, height: image.height, bitsPerComponent: 8, bitsPerPixel: 24,
                bytesPerRow: 3 * image.width, space: space, bitmapInfo: CGBitmapInfo(rawValue: 0),
                provider: provider, decode: nil, shouldInterpolate: false, intent: .defaultIntent)
        else {
            throw SegmenterFailure("no memory for the overlay")
        }
        return made
    }
}

#if os(macOS)
    @main
    struct Program {
        static func main() async {
            let arguments = CommandLine.arguments.dropFirst().map { URL(fileURLWithPath: $0) }
            guard arguments.count == 3 else {
                fail("usage: segment model.mlpackage image.jpg overlay.png")
            }
            do {
                let segmenter = try await Segmenter(contentsOf: arguments[0])
                let outcome = try segmenter.segment(imageAt: arguments[1])
                try write(outcome.overlay, to: arguments[2])
                for (label, share) in outcome.shares {
                    print(String(format: "%5.1f%%", 100 * share), "", label)
                }
                print(String(format: "%.2f ms", outcome.milliseconds))
            } catch {
                fail("error: \(error.localizedDescription)")
            }
        }

        static func write(_ image: CGImage, to url: URL) throws {
            let type = UTType.png.identifier as CFString
            guard let destination = CGImageDestinationCreateWithURL(url as CFURL, type, 1, nil) else {
                throw SegmenterFailure("\(url.path) cannot be written")
            }
            CGImageDestinationAddImage(destination, image, nil)
            guard CGImageDestinationFinalize(destination) else {
                throw SegmenterFailure("\(url.path) cannot be written")
            }
        }

        static func fail(_ line: String) -> Never {
            FileHandle.standardError.write(Data((line + "\n").utf8))
            exit(2)
        }
    }
#endif
