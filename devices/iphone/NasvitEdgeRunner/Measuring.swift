// From a job to its answer: cool enough, on the screen all the time, everything removed afterwards.

import Foundation

/// Measures one job after the other; `report` shows what is going on.
struct Measurer {
    let presence: Presence
    /// Whether to measure an interrupted model again at once; otherwise that is the caller's.
    let isPatient: Bool
    let report: @MainActor (String) -> Void

    /// A measurement, or why the model has none. Throws only where the run itself ends, or begins again.
    func answer(_ job: Job, fetch: (String) async throws -> Data) async throws -> Answer {
        do {
            let folder = try await ModelFolder(for: job, fetch: fetch)
            defer { folder.remove() }
            return .measurement(try await measured(job, package: folder.package))
        } catch let lost as ConnectionLost {
            throw lost
        } catch let interrupted as Interrupted {
            throw interrupted
        } catch let cancelled as CancellationError {
            throw cancelled
        } catch {
            if Task.isCancelled { throw CancellationError() }
            let text = error.localizedDescription.split(whereSeparator: \.isNewline).joined(separator: " ")
            return .failure(ModelFailure(id: job.id, nonce: job.nonce, error: String(text.prefix(300))))
        }
    }

    /// Waits while the phone is hotter than `most`.
    func coolDown(to most: Thermal) async throws {
        while thermalState().isHotter(than: most) {
            await report("The phone is warm (\(thermalState().rawValue)): waiting until it is \(most.rawValue)")
            try await Task.sleep(nanoseconds: 2_000_000_000)
        }
        try await presence.untilActive()
    }

    /// Again and again until the app was on the screen from start to end.
    private func measured(_ job: Job, package: URL) async throws -> ModelMeasurement {
        let presence = self.presence
        while true {
            try Task.checkCancellation()
            try await coolDown(to: job.maxThermal ?? .critical)
            let absences = presence.count
            let before = thermalState()
            do {
                let found = try await timed(job, package: package) { presence.count != absences }
                if presence.count == absences {
                    return measurement(job, found, before: before)
                }
            } catch {
                if presence.count == absences { throw error }
            }
            try Task.checkCancellation()
            if !isPatient { throw Interrupted() }
            await report("The app was left: measuring this model again")
        }
    }

    private func measurement(_ job: Job, _ found: Timed, before: Thermal) -> ModelMeasurement {
        let after = thermalState()
        return ModelMeasurement(
            id: job.id, nonce: job.nonce, samplesUs: found.samplesUs, inner: found.inner,
            compileMs: found.compileMs, loadMs: found.loadMs, firstMs: found.firstMs,
            clockUs: clockStepUs(), runtimeVersion: systemVersion(), flags: measurementFlags(after: after),
            windows: found.windows.isEmpty ? nil : found.windows, before: PhoneState(thermal: before),
            after: PhoneState(thermal: after))
    }
}
