// What a runner is asked and what it answers: the names are those of devices/protocol.json.

import Foundation

/// The Core ML compute units of a runtime.
enum Units: String, Codable {
    case all
    case cpuAndNeuralEngine
    case cpuAndGPU
    case cpuOnly
}

/// How hot the system says the phone is, from cool to hot.
enum Thermal: String, Codable, CaseIterable {
    case nominal
    case fair
    case serious
    case critical

    func isHotter(than other: Thermal) -> Bool {
        let order = Thermal.allCases
        return order.firstIndex(of: self)! > order.firstIndex(of: other)!
    }
}

/// A file of a model: where it belongs in the model's folder, and the hash it is fetched by.
struct ModelFile: Codable {
    let path: String
    let bytes: Int
    let sha256: String
}

/// What the model is fed: seeded normal values.
struct ModelInput: Codable {
    let name: String
    let shape: [Int]
    let dtype: String
    let fill: String

    /// The number in `seed:NUMBER`.
    var seed: UInt64 {
        UInt64(fill.split(separator: ":").last ?? "") ?? 0
    }
}

/// One model to time.
struct Job: Codable {
    let id: String
    let nonce: String
    let model: String
    let runtime: String
    let units: Units
    let files: [ModelFile]
    let input: ModelInput
    let runs: Int
    let seconds: Double
    let mostSeconds: Double
    let precision: Double
    let sustainedS: Double?
    let maxThermal: Thermal?

    enum CodingKeys: String, CodingKey {
        case id, nonce, model, runtime, units, files, input, runs, seconds, precision
        case mostSeconds = "most_seconds"
        case sustainedS = "sustained_s"
        case maxThermal = "max_thermal"
    }
}

/// The phone before and after a measurement.
struct PhoneState: Codable {
    let thermal: Thermal
}

/// An answer: the measurement of a model.
struct ModelMeasurement: Codable {
    let id: String
    let nonce: String
    let samplesUs: [Double]
    let inner: Int
    let compileMs: Double
    let loadMs: Double
    let firstMs: Double
    let clockUs: Double
    let runtimeVersion: String
    let flags: [String]
    let windows: [[Double]]?
    let before: PhoneState
    let after: PhoneState

    enum CodingKeys: String, CodingKey {
        case id, nonce, inner, flags, windows, before, after
        case samplesUs = "samples_us"
        case compileMs = "compile_ms"
        case loadMs = "load_ms"
        case firstMs = "first_ms"
        case clockUs = "clock_us"
        case runtimeVersion = "runtime_version"
    }
}

/// An answer: why there is no measurement.
struct ModelFailure: Codable {
    let id: String
    let nonce: String
    let error: String
}

/// Either answer, as it stands in the results of an offline run.
enum Answer: Codable {
    case measurement(ModelMeasurement)
    case failure(ModelFailure)

    var nonce: String {
        switch self {
        case .measurement(let measured): return measured.nonce
        case .failure(let failed): return failed.nonce
        }
    }

    var isMeasured: Bool {
        if case .measurement = self { return true }
        return false
    }

    init(from decoder: Decoder) throws {
        if let measured = try? ModelMeasurement(from: decoder) {
            self = .measurement(measured)
        } else {
            self = .failure(try ModelFailure(from: decoder))
        }
    }

    func encode(to encoder: Encoder) throws {
        switch self {
        case .measurement(let measured): try measured.encode(to: encoder)
        case .failure(let failed): try failed.encode(to: encoder)
        }
    }
}

/// What the phone is: the same at every connection.
struct About: Codable, Equatable {
    let board: String
    let architecture: String
    let cores: Int
    let os: String
    let memoryBytes: UInt64

    enum CodingKeys: String, CodingKey {
        case board, architecture, cores, os
        case memoryBytes = "memory_bytes"
    }
}

/// What may differ the next time.
struct Conditions: Codable {
    let thermal: Thermal
    let lowPowerMode: Bool
    let battery: String
    let batteryPercent: Int?
    let app: String

    enum CodingKeys: String, CodingKey {
        case thermal, battery, app
        case lowPowerMode = "low_power_mode"
        case batteryPercent = "battery_percent"
    }
}

/// How the phone introduces itself.
struct PhoneDescription: Codable {
    let id: String
    let about: About
    let conditions: Conditions
    let runtimes: [String: String]
    /// Random, kept with the app: tells two phones of one kind apart.
    let install: String
}

/// The host's answer to a description.
struct Welcome: Codable {
    let session: String
}

/// `jobs.json` of an offline bundle.
struct JobList: Codable {
    let schema: Int
    let uuid: String
    let jobs: [Job]
}

/// `result.json`: what an offline run gives back.
struct ResultList: Codable {
    let schema: Int
    let uuid: String
    var description: PhoneDescription
    var answers: [Answer]
}
