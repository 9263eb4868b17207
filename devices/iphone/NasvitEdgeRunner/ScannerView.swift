// Reads one QR code with the camera.

import AVFoundation
import SwiftUI
import UIKit

struct ScannerView: UIViewControllerRepresentable {
    /// The code's text; nil where there is no camera or it may not be used.
    let found: (String?) -> Void

    func makeUIViewController(context: Context) -> ScannerController {
        ScannerController(found: found)
    }

    func updateUIViewController(_ controller: ScannerController, context: Context) {}
}

final class ScannerController: UIViewController, AVCaptureMetadataOutputObjectsDelegate {
    private let found: (String?) -> Void
    private let capture = AVCaptureSession()
    private let queue = DispatchQueue(label: "camera")
    private var preview: AVCaptureVideoPreviewLayer?
    private var isOver = false

    init(found: @escaping (String?) -> Void) {
        self.found = found
        super.init(nibName: nil, bundle: nil)
    }

    @available(*, unavailable)
    required init?(coder: NSCoder) {
        fatalError("made in code only")
    }

    override func viewDidLoad() {
        super.viewDidLoad()
        view.backgroundColor = .black
        AVCaptureDevice.requestAccess(for: .video) { [weak self] isGranted in
            DispatchQueue.main.async {
                guard let self else { return }
                if isGranted && self.addCamera() {
                    self.begin()
                } else {
                    self.end(with: nil)
                }
            }
        }
    }

    override func viewDidLayoutSubviews() {
        super.viewDidLayoutSubviews()
        preview?.frame = view.bounds
    }

    override func viewWillDisappear(_ animated: Bool) {
        super.viewWillDisappear(animated)
        queue.async { [capture] in capture.stopRunning() }
    }

    private func addCamera() -> Bool {
        guard let camera = AVCaptureDevice.default(for: .video),
            let input = try? AVCaptureDeviceInput(device: camera), capture.canAddInput(input)
        else { return false }
        capture.addInput(input)
        let output = AVCaptureMetadataOutput()
        guard capture.canAddOutput(output) else { return false }
        capture.addOutput(output)
        guard output.availableMetadataObjectTypes.contains(.qr) else { return false }
        output.setMetadataObjectsDelegate(self, queue: .main)
        output.metadataObjectTypes = [.qr]
        return true
    }

    private func begin() {
        let layer = AVCaptureVideoPreviewLayer(session: capture)
        layer.videoGravity = .resizeAspectFill
        layer.frame = view.bounds
        view.layer.addSublayer(layer)
        preview = layer
        queue.async { [capture] in capture.startRunning() }
    }

    private func end(with text: String?) {
        guard !isOver else { return }
        isOver = true
        found(text)
    }

    func metadataOutput(
        _ output: AVCaptureMetadataOutput, didOutput objects: [AVMetadataObject],
        from connection: AVCaptureConnection
    ) {
        for case let code as AVMetadataMachineReadableCodeObject in objects {
            if let text = code.stringValue {
                end(with: text)
                return
            }
        }
    }
}
