// Whether the app is on the screen: what is measured while it is not is measured again.

import Foundation

/// Shared by the screen, which tells, and the timing thread, which asks.
final class Presence: @unchecked Sendable {
    private let lock = NSLock()
    private var isHere = true
    private var absences = 0

    /// Told whenever the scene's phase changes.
    func changed(isActive: Bool) {
        lock.lock()
        defer { lock.unlock() }
        if isHere && !isActive {
            absences += 1
        }
        isHere = isActive
    }

    /// Whatever is being measured ends soon, and counts for nothing.
    func interrupt() {
        lock.lock()
        defer { lock.unlock() }
        absences += 1
    }

    /// How often the app has left the screen.
    var count: Int {
        lock.lock()
        defer { lock.unlock() }
        return absences
    }

    var isActive: Bool {
        lock.lock()
        defer { lock.unlock() }
        return isHere
    }

    /// Returns once the app is on the screen; CancellationError where the run is stopped.
    func untilActive() async throws {
        while !isActive {
            try await Task.sleep(nanoseconds: 200_000_000)
        }
    }
}
