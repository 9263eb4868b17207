// Talking to the host: devices/PROTOCOL.md over URLSession. Over https the certificate is known by its hash.

import CryptoKit
import Foundation

/// What the host says when it is asked for a job.
enum NextJob {
    case job(Job)
    case notYet
    case allDone
    case sessionOver
}

/// The host cannot be reached, or answers with a trouble of its own: it may be well again soon.
struct ConnectionLost: Error {
    let reason: String
}

final class Connection: NSObject, URLSessionDelegate {
    private let address: Address
    private lazy var session: URLSession = {
        let configuration = URLSessionConfiguration.ephemeral
        configuration.timeoutIntervalForRequest = 60
        configuration.waitsForConnectivity = false
        configuration.urlCache = nil
        return URLSession(configuration: configuration, delegate: self, delegateQueue: nil)
    }()

    init(to address: Address) {
        self.address = address
    }

    /// Ends the connection; a URLSession keeps its delegate until then.
    func close() {
        session.invalidateAndCancel()
    }

    /// A new session, or nil while another device is measured.
    func hello(_ description: PhoneDescription) async throws -> String? {
        let (status, data) = try await send("POST", "hello", body: try JSONEncoder().encode(description))
        switch status {
        case 200:
            guard let welcome = try? JSONDecoder().decode(Welcome.self, from: data) else {
                throw RunnerError("Something else than nasvit-edge answers at this address.")
            }
            return welcome.session
        case 409: return nil
        case 404: throw RunnerError("No profile runs at this address. Scan the code that is shown now.")
        case 410: throw RunnerError("This profile has ended.")
        default:
            let text = String(decoding: data.prefix(200), as: UTF8.self)
            throw RunnerError("The host refuses this phone (\(status)): \(text)")
        }
    }

    func nextJob(_ session: String) async throws -> NextJob {
        let (status, data) = try await send("GET", "job", session: session)
        switch status {
        case 200: return .job(try readable(data))
        case 204: return .notYet
        case 410: return .allDone
        default: return .sessionOver
        }
    }

    private func readable(_ data: Data) throws -> Job {
        do {
            return try JSONDecoder().decode(Job.self, from: data)
        } catch {
            throw RunnerError("The host asks what this app does not know: use the app and nasvit-edge of one version.")
        }
    }

    /// The bytes of a file of the current job.
    func file(_ sha256: String) async throws -> Data {
        let (status, data) = try await send("GET", "file/\(sha256)")
        guard status == 200 else { throw ConnectionLost(reason: "a file is answered with \(status)") }
        return data
    }

    /// Whether the answer is with the host, or no longer wanted; false where the session is over.
    func deliver(_ answer: Answer, session: String) async throws -> Bool {
        let (status, _) = try await send(
            "POST", "result", session: session, body: try JSONEncoder().encode(answer))
        return status == 200 || status == 409
    }

    func beat(_ session: String) async {
        _ = try? await send("POST", "beat", session: session, body: Data("{}".utf8))
    }

    private func send(
        _ method: String, _ path: String, session name: String? = nil, body: Data? = nil
    ) async throws -> (Int, Data) {
        var request = URLRequest(url: address.url(path, session: name))
        request.httpMethod = method
        if let body {
            request.httpBody = body
            request.setValue("application/json", forHTTPHeaderField: "Content-Type")
        }
        do {
            let (data, response) = try await session.data(for: request)
            let status = (response as? HTTPURLResponse)?.statusCode ?? 0
            if status == 0 || status == 202 || status >= 500 {
                throw ConnectionLost(reason: "the host answers \(status)")
            }
            return (status, data)
        } catch let error as URLError {
            if Task.isCancelled { throw CancellationError() }
            if error.code == .cancelled {  // by the delegate below
                throw RunnerError("The host shows another certificate than the fingerprint says.")
            }
            throw ConnectionLost(reason: error.localizedDescription)
        }
    }

    func urlSession(
        _ session: URLSession, didReceive challenge: URLAuthenticationChallenge,
        completionHandler: @escaping (URLSession.AuthChallengeDisposition, URLCredential?) -> Void
    ) {
        let space = challenge.protectionSpace
        guard space.authenticationMethod == NSURLAuthenticationMethodServerTrust,
            let trust = space.serverTrust,
            let chain = SecTrustCopyCertificateChain(trust) as? [SecCertificate],
            let certificate = chain.first,
            hexadecimal(of: SecCertificateCopyData(certificate) as Data) == address.fingerprint
        else {
            completionHandler(.cancelAuthenticationChallenge, nil)
            return
        }
        completionHandler(.useCredential, URLCredential(trust: trust))
    }
}

/// The SHA-256 of data, as the protocol writes it.
func hexadecimal(of data: Data) -> String {
    SHA256.hash(data: data).map { String(format: "%02x", $0) }.joined()
}
