// Jobs from the host until it has all it wants. A host that was away is found again, and so is this phone.

import Foundation

struct PullRun {
    private static let beat: UInt64 = 10_000_000_000  // ns; the host takes 45 s of silence for absence
    private static let longestPause = 15.0  // seconds between tries

    let connection: Connection
    let measurer: Measurer
    let report: @MainActor (String) -> Void
    let finished: @MainActor (Answer) -> Void

    /// Returns when all is measured.
    func run() async throws {
        var session: String?
        var coolest = Thermal.nominal
        var pause = 0.5
        while true {
            try Task.checkCancellation()
            do {
                try await measurer.presence.untilActive()
                guard let current = try await begun(session) else {
                    await report("Another device is being measured: waiting")
                    try await Task.sleep(nanoseconds: 3_000_000_000)
                    continue
                }
                session = current
                // Before the job is given: from then on its time runs.
                let most = coolest
                try await beating(current) { try await measurer.coolDown(to: most) }
                let next = try await connection.nextJob(current)
                pause = 0.5
                switch next {
                case .allDone: return
                case .notYet: await report("Waiting for the next model")
                case .sessionOver:
                    session = nil
                    try await Task.sleep(nanoseconds: 1_000_000_000)
                case .job(let job):
                    coolest = job.maxThermal ?? .critical
                    session = try await answered(job, session: current)
                }
            } catch is Interrupted {
                await report("The app was left: asking for this model again")
                session = nil
            } catch let lost as ConnectionLost {
                await report("Connection lost, trying again (\(lost.reason))")
                session = nil
                try await Task.sleep(nanoseconds: UInt64(pause * 1e9))
                pause = min(2 * pause, PullRun.longestPause)
            }
        }
    }

    /// The session that goes on, or a new one; nil while another device is measured.
    private func begun(_ session: String?) async throws -> String? {
        if let session { return session }
        return try await connection.hello(await describePhone())
    }

    /// Measures and delivers; the session, or nil where it is over.
    private func answered(_ job: Job, session: String) async throws -> String? {
        await report("Measuring \(job.id)")
        let answer = try await beating(session) {
            try await measurer.answer(job) { try await connection.file($0) }
        }
        let isDelivered = try await delivered(answer, session: session)
        await finished(answer)
        return isDelivered ? session : nil
    }

    /// Posts until it arrives.
    private func delivered(_ answer: Answer, session: String) async throws -> Bool {
        var pause = 0.5
        while true {
            do {
                return try await connection.deliver(answer, session: session)
            } catch let lost as ConnectionLost {
                await report("Connection lost, the result is kept (\(lost.reason))")
                try await Task.sleep(nanoseconds: UInt64(pause * 1e9))
                pause = min(2 * pause, PullRun.longestPause)
            }
        }
    }

    /// Tells the host now and then that long work is going on; not after the app was left: then it begins anew.
    private func beating<T>(_ session: String, work: () async throws -> T) async throws -> T {
        let connection = self.connection
        let presence = measurer.presence
        let absences = presence.count
        let beats = Task {
            while true {
                try await Task.sleep(nanoseconds: PullRun.beat)
                guard presence.count == absences else { return }
                await connection.beat(session)
            }
        }
        defer { beats.cancel() }
        return try await work()
    }
}
