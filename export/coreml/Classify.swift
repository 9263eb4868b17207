// Classifies an image file with an exported Core ML model, on macOS 13 and later:
//
//     swiftc -O -parse-as-library Classify.swift -o classify
//     ./classify model.mlpackage image.jpg
//
// In an iOS 16 app add this file and the model, and call `Classifier(contentsOf:)` and `classify(imageAt:)`.
// Labels, resolution and normalisation are in the model: it takes RGB bytes and gives probabilities.

import CoreGraphics
import CoreImage
import CoreML
import CoreVideo
import Foundation

struct Crop: Equatable {
    let width: Int
    let height: Int
    let left: Int
    let top: Int
}

struct Failure: LocalizedError {
    let errorDescription: String?

    init(_ text: String) {
        errorDescription = text
    }
}

/// Shorter side to `side`, halves rounded up, then the middle square.
func cropGeometry(width: Int, height: Int, side: Int) -> Crop {
    let shorter = min(width, height)
    let resizedWidth = (width * side + shorter / 2) / shorter
    let resizedHeight = (height * side + shorter / 2) / shorter
    let left = (resizedWidth - side) / 2
    let top = (resizedHeight - side) / 2
    return Crop(width: resizedWidth, height: resizedHeight, left: left, top: top)
}

/// The classes of the five largest, the lower index first where equal.
func topFive(probabilities: [Double]) -> [Int] {
    let order = probabilities.indices.sorted { first, second in
        if probabilities[first] == probabilities[second] {
            return first < second
        }
        return probabilities[first] > probabilities[second]
    }
    return Array(order.prefix(5))
}

/// An image file, upright.
func readImage(at url: URL) throws -> CGImage {
    guard let image = CIImage(contentsOf: url, options: [.applyOrientationProperty: true]),
        let upright = CIContext().createCGImage(image, from: image.extent)
    else {
        throw Failure("\(url.path) is not an image")
    }
    return upright
}

/// The middle square of an image in sRGB. Core Graphics' best filter averages when it shrinks, as bicubic in
/// training does; the pixels are close to that, not the same.
func pixels(of image: CGImage, side: Int) throws -> CVPixelBuffer {
    var created: CVPixelBuffer?
    let options = [kCVPixelBufferCGBitmapContextCompatibilityKey: true] as CFDictionary
    CVPixelBufferCreate(kCFAllocatorDefault, side, side, kCVPixelFormatType_32BGRA, options, &created)
    guard let buffer = created else {
        throw Failure("no memory for \(side) x \(side) pixels")
    }
    CVPixelBufferLockBaseAddress(buffer, [])
    defer { CVPixelBufferUnlockBaseAddress(buffer, []) }
    guard let space = CGColorSpace(name: CGColorSpace.sRGB),
        let context = CGContext(
            data: CVPixelBufferGetBaseAddress(buffer), width: side, height: side, bitsPerComponent: 8,
            bytesPerRow: CVPixelBufferGetBytesPerRow(buffer), space: space,
            bitmapInfo: CGImageAlphaInfo.noneSkipFirst.rawValue | CGBitmapInfo.byteOrder32Little.rawValue)
    else {
        throw Failure("cannot draw \(side) x \(side) pixels")
    }
    let crop = cropGeometry(width: image.width, height: image.height, side: side)
    context.interpolationQuality = .high
    // The origin is at the bottom left, `top` counts from above.
    let bottom = side + crop.top - crop.height
    context.draw(image, in: CGRect(x: -crop.left, y: bottom, width: crop.width, height: crop.height))
    return buffer
}

final class Classifier {
    struct Outcome {
        let classes: [(label: String, probability: Double)]
        let milliseconds: Double
    }

    private let model: MLModel
    private let temporary: URL?
    private let labels: [String]
    private let probabilitiesName: String
    private let side: Int

    /// Loads an .mlpackage, or the .mlmodelc that Xcode makes of one.
    init(contentsOf url: URL) async throws {
        let isCompiled = url.pathExtension == "mlmodelc"
        let compiled = try await isCompiled ? url : MLModel.compileModel(at: url)
        let loaded = try MLModel(contentsOf: compiled)
        let description = loaded.modelDescription
        guard let names = description.classLabels as? [String],
            let output = description.predictedProbabilitiesName,
            let image = description.inputDescriptionsByName["image"]?.imageConstraint
        else {
            throw Failure("\(url.path) is not an image classifier")
        }
        model = loaded
        temporary = isCompiled ? nil : compiled
        labels = names
        probabilitiesName = output
        side = image.pixelsWide
    }

    /// Core ML may read the compiled files for as long as the model is used.
    deinit {
        if let temporary {
            try? FileManager.default.removeItem(at: temporary)
        }
    }

    /// The five likeliest classes, and how long the second run took: the first one plans.
    func classify(imageAt url: URL) throws -> Outcome {
        let buffer = try pixels(of: readImage(at: url), side: side)
        let input = try MLDictionaryFeatureProvider(dictionary: ["image": MLFeatureValue(pixelBuffer: buffer)])
        _ = try model.prediction(from: input)
        let start = DispatchTime.now().uptimeNanoseconds
        let output = try model.prediction(from: input)
        let milliseconds = Double(DispatchTime.now().uptimeNanoseconds - start) / 1e6
        let shares = output.featureValue(for: probabilitiesName)?.dictionaryValue ?? [:]
        let probabilities = labels.map { shares[$0]?.doubleValue ?? 0 }
        let classes = topFive(probabilities: probabilities).map {
            (label: labels[$0], probability: probabilities[$0])
        }
        return Outcome(classes: classes, milliseconds: milliseconds)
    }
}

#if os(macOS)
    @main
    struct Program {
        static func main() async {
            let arguments = CommandLine.arguments.dropFirst().map { URL(fileURLWithPath: $0) }
            guard arguments.count == 2 else {
                fail("usage: classify model.mlpackage image.jpg")
            }
            do {
                let classifier = try await Classifier(contentsOf: arguments[0])
                let outcome = try classifier.classify(imageAt: arguments[1])
                for (label, probability) in outcome.classes {
                    print(String(format: "%5.1f%%", 100 * probability), "", label)
                }
                print(String(format: "%.2f ms", outcome.milliseconds))
            } catch {
                fail("error: \(error.localizedDescription)")
            }
        }

        static func fail(_ line: String) -> Never {
            FileHandle.standardError.write(Data((line + "\n").utf8))
            exit(2)
        }
    }
#endif
