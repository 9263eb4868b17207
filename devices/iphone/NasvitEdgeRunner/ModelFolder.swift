// A job's model on disk: each file fetched by its hash and checked, all of it removed afterwards.

import Foundation

/// A temporary folder that holds one model; `remove` it when done.
struct ModelFolder {
    let package: URL
    private let folder: URL

    /// `fetch` gives the bytes of a file by its SHA-256.
    init(for job: Job, fetch: (String) async throws -> Data) async throws {
        guard isInside(job.model), job.files.allSatisfy({ isInside($0.path) }) else {
            throw RunnerError("The model's files would lie outside its folder.")
        }
        let manager = FileManager.default
        folder = manager.temporaryDirectory.appendingPathComponent("job-" + UUID().uuidString)
        package = folder.appendingPathComponent(job.model)
        do {
            for file in job.files {
                let data = try await fetch(file.sha256)
                guard data.count == file.bytes, hexadecimal(of: data) == file.sha256 else {
                    throw RunnerError("File \(file.path) arrived damaged.")
                }
                let place = package.appendingPathComponent(file.path)
                try manager.createDirectory(
                    at: place.deletingLastPathComponent(), withIntermediateDirectories: true)
                try data.write(to: place)
            }
        } catch {
            try? manager.removeItem(at: folder)
            throw error
        }
    }

    func remove() {
        try? FileManager.default.removeItem(at: folder)
    }

    /// Models, compiled ones too, that an app that was killed left behind.
    static func removeLeftovers() {
        let manager = FileManager.default
        let left = try? manager.contentsOfDirectory(
            at: manager.temporaryDirectory, includingPropertiesForKeys: nil)
        for url in left ?? [] {
            try? manager.removeItem(at: url)
        }
    }
}
