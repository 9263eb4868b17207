// A bundle without a network: jobs.json and files/ from a folder, result.json into the app's documents.

import Foundation

struct OfflineRun {
    private static let savedEvery = 10.0  // seconds

    let folder: URL
    let measurer: Measurer
    let report: @MainActor (String) -> Void
    let finished: @MainActor (Answer) -> Void

    /// The bundle's jobs, checked before anything is measured.
    static func jobs(in folder: URL) throws -> JobList {
        let place = folder.appendingPathComponent("jobs.json")
        guard let data = try? Data(contentsOf: place) else {
            throw RunnerError("There is no jobs.json in \(folder.lastPathComponent): open the unpacked zip's folder.")
        }
        guard let found = try? JSONDecoder().decode(JobList.self, from: data), found.schema == 1 else {
            throw RunnerError("jobs.json asks what this app does not know: use app and nasvit-edge of one version.")
        }
        return found
    }

    /// Where the results of a bundle are.
    static func place(of uuid: String) -> URL {
        let documents = FileManager.default.urls(for: .documentDirectory, in: .userDomainMask)[0]
        return documents.appendingPathComponent("result-\(uuid.prefix(8)).json")
    }

    /// Measures what the result file does not have yet; returns the file.
    func run(_ list: JobList) async throws -> URL {
        let place = OfflineRun.place(of: list.uuid)
        var results = await earlier(list, at: place)
        let done = Set(results.answers.map(\.nonce))
        var saved = Date()
        for (index, job) in list.jobs.enumerated() where !done.contains(job.nonce) {
            await report("Measuring \(index + 1) of \(list.jobs.count): \(job.id)")
            do {
                let answer = try await measurer.answer(job) { try file($0) }
                results.answers.append(answer)
                await finished(answer)
            } catch {
                try save(results, at: place)
                throw error
            }
            if Date().timeIntervalSince(saved) > OfflineRun.savedEvery {
                try save(results, at: place)
                saved = Date()
            }
        }
        try save(results, at: place)
        return place
    }

    /// What was measured of this bundle before, on this very phone and system.
    private func earlier(_ list: JobList, at place: URL) async -> ResultList {
        let now = await describePhone()
        var results = ResultList(schema: 1, uuid: list.uuid, description: now, answers: [])
        if let data = try? Data(contentsOf: place),
            let found = try? JSONDecoder().decode(ResultList.self, from: data),
            found.uuid == list.uuid, found.description.about == now.about
        {
            results.answers = found.answers.filter(\.isMeasured)
        }
        return results
    }

    private func file(_ sha256: String) throws -> Data {
        guard isInside(sha256) else { throw RunnerError("A file has a strange name.") }
        return try Data(contentsOf: folder.appendingPathComponent("files").appendingPathComponent(sha256))
    }

    /// The whole file or nothing: written beside it, then renamed.
    private func save(_ results: ResultList, at place: URL) throws {
        try JSONEncoder().encode(results).write(to: place, options: .atomic)
    }
}
