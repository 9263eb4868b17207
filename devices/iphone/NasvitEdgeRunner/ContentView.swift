// The one screen of the app.

import SwiftUI
import UniformTypeIdentifiers

struct ContentView: View {
    @ObservedObject var session: Session
    @State private var address = ""
    @State private var fingerprint = ""
    @State private var isScanning = false
    @State private var isPicking = false

    var body: some View {
        NavigationStack {
            Form {
                if session.phase == .running {
                    running
                } else {
                    outcome
                    overNetwork
                    offline
                    advice
                }
            }
            .navigationTitle("nasvit-edge")
        }
        .sheet(isPresented: $isScanning) { scanner }
        .fileImporter(isPresented: $isPicking, allowedContentTypes: [.folder]) { picked in
            if case .success(let folder) = picked {
                session.open(folder)
            }
        }
    }

    private var running: some View {
        Section {
            HStack(spacing: 12) {
                ProgressView()
                Text(session.status)
            }
            Text("\(session.measured) measured, \(session.failures) failed")
            Text("Keep the app open and the phone still. The screen stays on.")
                .foregroundStyle(.secondary)
            Button("Stop", role: .destructive) { session.stop() }
        }
    }

    @ViewBuilder private var outcome: some View {
        switch session.phase {
        case .done(let text):
            Section { Label(text, systemImage: "checkmark.circle") }
        case .failed(let text):
            Section { Label(text, systemImage: "exclamationmark.triangle") }
        default:
            EmptyView()
        }
        if let result = session.result, FileManager.default.fileExists(atPath: result.path) {
            Section { ShareLink("Share \(result.lastPathComponent)", item: result) }
        }
    }

    private var overNetwork: some View {
        Section("Over the network") {
            Button {
                isScanning = true
            } label: {
                Label("Scan the code", systemImage: "qrcode.viewfinder")
            }
            TextField("or type the address", text: $address)
                .textInputAutocapitalization(.never)
                .autocorrectionDisabled()
                .keyboardType(.URL)
            if address.lowercased().hasPrefix("https") {
                TextField("fingerprint (SHA-256)", text: $fingerprint)
                    .textInputAutocapitalization(.never)
                    .autocorrectionDisabled()
            }
            Button("Measure") { session.pull(from: address, fingerprint: fingerprint) }
                .disabled(address.isEmpty)
        }
    }

    private var offline: some View {
        Section("Without a network") {
            Button {
                isPicking = true
            } label: {
                Label("Open a bundle's folder", systemImage: "folder")
            }
        }
    }

    private var advice: some View {
        Section("Before you start") {
            Text("Low Power Mode off, other apps closed, the phone cool and out of its case. Charging makes it warm.")
                .foregroundStyle(.secondary)
        }
    }

    private var scanner: some View {
        ScannerView { found in
            isScanning = false
            if let found {
                address = found
                session.pull(from: found, fingerprint: "")
            } else {
                session.complain("The camera cannot be used: allow it in Settings, or type the address.")
            }
        }
        .ignoresSafeArea()
    }
}
