// Classifies an image file with an exported Core ML model, on macOS 13 and later:
//
//     swiftc -O -parse-as-library PrepareImage.swift Classify.swift -o classify
//     ./classify model.mlpackage image.jpg
//
// In an iOS 16 app add both files and the model, and call `Classifier(contentsOf:)` and `classify(imageAt:)`.
// Labels, preparation and normalisation are in the model: it takes RGB bytes and gives probabilities.

import CoreML
import Foundation

struct Failure: LocalizedError {
    let errorDescription: String?

    init(_ text: String) {
        errorDescription = text
    }
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

final class Classifier {
    struct Outcome {
        let classes: [(label: String, probability: Double)]
        let milliseconds: Double
    }

    private let model: MLModel
    private let temporary: URL?
    private let labels: [String]
    private let probabilitiesName: String
    private let preparation: Preparation

    /// Loads an .mlpackage, or the .mlmodelc that Xcode makes of one.
    init(contentsOf url: URL) async throws {
        let isCompiled = url.pathExtension == "mlmodelc"
        let compiled = try await isCompiled ? url : MLModel.compileModel(at: url)
        let loaded = try MLModel(contentsOf: compiled)
        let description = loaded.modelDescription
        guard let names = description.classLabels as? [String],
            let output = description.predictedProbabilitiesName,
            let defined = description.metadata[MLModelMetadataKey.creatorDefinedKey] as? [String: String],
            let text = defined["nasvit_edge"]
        else {
            throw Failure("\(url.path) is no image classifier that was written by nasvit-edge")
        }
        preparation = try Preparation.of(JSONDecoder().decode([String: String].self, from: Data(text.utf8)))
        model = loaded
        temporary = isCompiled ? nil : compiled
        labels = names
        probabilitiesName = output
    }

    /// Core ML may read the compiled files for as long as the model is used.
    deinit {
        if let temporary {
            try? FileManager.default.removeItem(at: temporary)
        }
    }

    /// The five likeliest classes, and how long the second run took: the first one plans.
    func classify(imageAt url: URL) throws -> Outcome {
        let image = try readImage(at: url, preparation: preparation)
        let buffer = try pixelBuffer(of: image, preparation: preparation)
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
