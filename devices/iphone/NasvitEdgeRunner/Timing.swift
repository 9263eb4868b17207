// Timing one Core ML model: compile, load, first call, warm-up, then samples or the windows of a sustained run.

import CoreML
import Foundation

/// The app left the screen: the measurement is worth nothing and is done again.
struct Interrupted: Error {}

/// Nanoseconds that do not jump; stands still while the phone sleeps.
@inline(__always) private func now() -> UInt64 {
    clock_gettime_nsec_np(CLOCK_UPTIME_RAW)
}

/// The step of that clock in microseconds.
func clockStepUs() -> Double {
    var base = mach_timebase_info_data_t()
    mach_timebase_info(&base)
    return Double(base.numer) / Double(base.denom) / 1000
}

/// What was timed of one model, in the units of the protocol.
struct Timed {
    var samplesUs: [Double] = []
    var windows: [[Double]] = []
    var inner = 1
    var compileMs = 0.0
    var loadMs = 0.0
    var firstMs = 0.0
}

/// Times `package` as the job says; `isInterrupted` is asked between samples.
func timed(_ job: Job, package: URL, isInterrupted: @escaping () -> Bool) async throws -> Timed {
    var found = Timed()
    let start = now()
    let compiled = try await MLModel.compileModel(at: package)
    defer { try? FileManager.default.removeItem(at: compiled) }
    found.compileMs = Double(now() - start) / 1e6
    let configuration = MLModelConfiguration()
    configuration.computeUnits = computeUnits(of: job.units)
    let begin = now()
    let model = try await MLModel.load(contentsOf: compiled, configuration: configuration)
    found.loadMs = Double(now() - begin) / 1e6
    let loop = TimingLoop(model: model, features: try features(of: job.input, for: model))
    let prepared = found
    return try await onOwnThread { try loop.run(job, into: prepared, isInterrupted: isInterrupted) }
}

private func computeUnits(of units: Units) -> MLComputeUnits {
    switch units {
    case .all: return .all
    case .cpuAndNeuralEngine: return .cpuAndNeuralEngine
    case .cpuAndGPU: return .cpuAndGPU
    case .cpuOnly: return .cpuOnly
    }
}

/// The model's input, made once: what is timed is the prediction alone.
private func features(of input: ModelInput, for model: MLModel) throws -> MLFeatureProvider {
    let names = model.modelDescription.inputDescriptionsByName.keys.sorted()
    guard names.contains(input.name) else {
        throw RunnerError("The model has no input \(input.name); it has \(names.joined(separator: ", ")).")
    }
    var normals = SeededNormals(seed: input.seed)
    let values = normals.values(input.shape.reduce(1, *))
    let array = MLMultiArray(MLShapedArray<Float>(scalars: values, shape: input.shape))
    return try MLDictionaryFeatureProvider(dictionary: [input.name: MLFeatureValue(multiArray: array)])
}

/// Work that neither the main thread nor Swift's few shared ones are kept from.
private func onOwnThread<T>(_ work: @escaping () throws -> T) async throws -> T {
    try await withCheckedThrowingContinuation { continuation in
        DispatchQueue(label: "timing", qos: .userInteractive).async {
            continuation.resume(with: Result { try work() })
        }
    }
}

/// Everything here is synchronous: in an async function Core ML's `prediction` would be another one.
private struct TimingLoop {
    private static let sampleNs = 500_000.0  // a sample lasts at least this long, far above the clock's step
    private static let warmRuns = 5
    private static let warmNs: UInt64 = 150_000_000  // clocks rise slowly
    private static let windowNs: UInt64 = 1_000_000_000
    private static let kept = 5_000

    let model: MLModel
    let features: MLFeatureProvider
    let options = MLPredictionOptions()

    func run(_ job: Job, into prepared: Timed, isInterrupted: () -> Bool) throws -> Timed {
        var found = prepared
        found.firstMs = try sample(1) / 1000
        let fastest = try warmUp()
        found.inner = max(1, Int((TimingLoop.sampleNs / (fastest * 1000)).rounded(.up)))
        if let seconds = job.sustainedS, seconds > 0 {
            try sustain(seconds, into: &found, isInterrupted: isInterrupted)
        } else {
            let rule = StopRule(
                runs: job.runs, seconds: job.seconds, mostSeconds: job.mostSeconds, precision: job.precision)
            found.samplesUs = try samples(rule, inner: found.inner, isInterrupted: isInterrupted)
        }
        return found
    }

    /// Microseconds a prediction, the mean of `inner` in a row.
    private func sample(_ inner: Int) throws -> Double {
        try autoreleasepool {
            let start = now()
            for _ in 0..<inner {
                _ = try model.prediction(from: features, options: options)
            }
            return max(1, Double(now() - start)) / Double(inner) / 1000
        }
    }

    /// Runs for a while; the fastest prediction in microseconds.
    private func warmUp() throws -> Double {
        var fastest = Double.infinity
        var runs = 0
        let start = now()
        while runs < TimingLoop.warmRuns || now() - start < TimingLoop.warmNs {
            let once = try sample(1)
            fastest = min(fastest, once)
            runs += 1
        }
        return fastest
    }

    private func samples(_ rule: StopRule, inner: Int, isInterrupted: () -> Bool) throws -> [Double] {
        var taken: [Double] = []
        let start = now()
        repeat {
            if isInterrupted() { throw Interrupted() }
            taken.append(try sample(inner))
        } while !rule.isOver(taken, spent: Double(now() - start) / 1e9)
        return taken
    }

    /// Without a pause for so long; windows of a second: [their end in seconds, their median in us].
    private func sustain(_ seconds: Double, into found: inout Timed, isInterrupted: () -> Bool) throws {
        var taken: [Double] = []
        var first = 0
        let start = now()
        var begun = start
        var isOver = false
        while !isOver {
            if isInterrupted() { throw Interrupted() }
            taken.append(try sample(found.inner))
            let time = now()
            isOver = Double(time - start) / 1e9 >= seconds
            if isOver || time - begun >= TimingLoop.windowNs {
                found.windows.append([Double(time - start) / 1e9, median(Array(taken[first...]))])
                first = taken.count
                begun = time
            }
        }
        found.samplesUs = thinned(taken, most: TimingLoop.kept)
    }
}
