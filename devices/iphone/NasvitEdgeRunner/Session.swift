// What the screen shows and starts: one run at a time.

import SwiftUI
import UIKit

@MainActor
final class Session: ObservableObject {
    enum Phase: Equatable {
        case idle
        case running
        case done(String)
        case failed(String)
    }

    @Published private(set) var phase = Phase.idle
    @Published private(set) var status = ""
    @Published private(set) var measured = 0
    @Published private(set) var failures = 0
    @Published private(set) var result: URL?

    private let presence = Presence()
    private var isStarted = false
    private var isHeadless = false
    private var task: Task<Void, Never>?

    /// `--url URL`, or `--offline FOLDER` in the app's documents: arguments of `devicectl device process launch`.
    func startFromArguments() {
        guard !isStarted else { return }
        isStarted = true
        let arguments = CommandLine.arguments
        if let at = arguments.firstIndex(of: "--url"), at + 1 < arguments.count {
            isHeadless = true
            pull(from: arguments[at + 1], fingerprint: "")
        } else if let at = arguments.firstIndex(of: "--offline"), at + 1 < arguments.count {
            isHeadless = true
            let documents = FileManager.default.urls(for: .documentDirectory, in: .userDomainMask)[0]
            open(documents.appendingPathComponent(arguments[at + 1]))
        }
    }

    func changed(to phase: ScenePhase) {
        presence.changed(isActive: phase == .active)
    }

    func stop() {
        task?.cancel()
        presence.interrupt()
    }

    /// Something that kept a run from starting.
    func complain(_ text: String) {
        phase = .failed(text)
    }

    func pull(from text: String, fingerprint: String) {
        start {
            let connection = Connection(to: try Address(text, typed: fingerprint))
            defer { connection.close() }
            let run = PullRun(
                connection: connection, measurer: self.measurer(isPatient: false), report: self.show,
                finished: self.count)
            try await run.run()
            return "All is measured. The table is on the computer."
        }
    }

    /// Runs the bundle in a folder that was picked; access to it ends with the run.
    func open(_ folder: URL) {
        start {
            let isScoped = folder.startAccessingSecurityScopedResource()
            defer { if isScoped { folder.stopAccessingSecurityScopedResource() } }
            let list = try OfflineRun.jobs(in: folder)
            self.result = OfflineRun.place(of: list.uuid)
            let run = OfflineRun(
                folder: folder, measurer: self.measurer(isPatient: true), report: self.show, finished: self.count)
            self.result = try await run.run(list)
            return "All is measured. Share the result file, then run nasvit-edge profile --results with it."
        }
    }

    private func measurer(isPatient: Bool) -> Measurer {
        Measurer(presence: presence, isPatient: isPatient, report: show)
    }

    private func show(_ text: String) {
        status = text
    }

    private func count(_ answer: Answer) {
        if answer.isMeasured {
            measured += 1
        } else {
            failures += 1
        }
    }

    private func start(_ work: @escaping @MainActor () async throws -> String) {
        guard phase != .running else { return }
        if let reason = reasonNotToMeasure() {
            ended(.failed(reason), "NASVIT_EDGE_FAILED \(reason)", code: 1)
            return
        }
        measured = 0
        failures = 0
        status = "Starting"
        result = nil
        phase = .running
        UIApplication.shared.isIdleTimerDisabled = true
        ModelFolder.removeLeftovers()
        task = Task {
            do {
                let text = try await work()
                let failed = failures == 0 ? "" : " \(failures) models failed: the computer says which."
                ended(.done(text + failed), "NASVIT_EDGE_DONE \(result?.lastPathComponent ?? "")", code: 0)
            } catch is CancellationError {
                ended(.failed("Stopped. The same address or folder continues."), "NASVIT_EDGE_STOPPED", code: 1)
            } catch {
                let text = error.localizedDescription
                ended(.failed(text), "NASVIT_EDGE_FAILED \(text)", code: 1)
            }
        }
    }

    /// The line is for `devicectl device process launch --console`, which waits for the app's end.
    private func ended(_ how: Phase, _ line: String, code: Int32) {
        phase = how
        UIApplication.shared.isIdleTimerDisabled = false
        print(line)
        fflush(stdout)
        if isHeadless {
            exit(code)
        }
    }
}
