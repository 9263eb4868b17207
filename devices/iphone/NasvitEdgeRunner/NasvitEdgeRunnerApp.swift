// Times Core ML models on this phone for nasvit-edge: see README.md.

import SwiftUI

@main
struct NasvitEdgeRunnerApp: App {
    @StateObject private var session = Session()
    @Environment(\.scenePhase) private var phase

    var body: some Scene {
        WindowGroup {
            ContentView(session: session)
                .onAppear { session.startFromArguments() }
        }
        .onChange(of: phase) { session.changed(to: $0) }
    }
}
