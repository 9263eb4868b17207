// Where the host is: the URL of the QR code, and with https the certificate it must show.

import Foundation

/// One line for the person who holds the phone.
struct RunnerError: LocalizedError {
    let errorDescription: String?

    init(_ text: String) {
        errorDescription = text
    }
}

struct Address: Equatable {
    /// Without a trailing slash: `http://192.168.1.5:8000/TOKEN`.
    let base: URL
    /// SHA-256 of the certificate, 64 hexadecimal digits; nil over plain HTTP.
    let fingerprint: String?

    /// Reads `URL` or `URL#sha256=FINGERPRINT`; a fingerprint that was typed wins.
    init(_ text: String, typed: String = "") throws {
        let trimmed = text.trimmingCharacters(in: .whitespacesAndNewlines)
        guard var parts = URLComponents(string: trimmed), let host = parts.host, !host.isEmpty,
            let scheme = parts.scheme?.lowercased(), scheme == "http" || scheme == "https"
        else {
            throw RunnerError("This is no address of a profile: \(trimmed.prefix(80))")
        }
        let fragment = parts.fragment ?? ""
        parts.fragment = nil
        while parts.path.hasSuffix("/") {
            parts.path.removeLast()
        }
        guard let url = parts.url, !parts.path.isEmpty else {
            throw RunnerError("The address has no token: scan the code or copy the whole address.")
        }
        base = url
        let given = typed.isEmpty ? Address.carried(by: fragment) : typed
        let digits = given.lowercased().filter { "0123456789abcdef".contains($0) }
        if scheme == "https" && digits.count != 64 {
            throw RunnerError("With https the fingerprint is needed: nasvit-edge shows it beside the code.")
        }
        fingerprint = scheme == "https" ? digits : nil
    }

    /// The value of `sha256=` in a fragment.
    private static func carried(by fragment: String) -> String {
        for part in fragment.split(separator: "&") where part.hasPrefix("sha256=") {
            return String(part.dropFirst("sha256=".count))
        }
        return ""
    }

    /// `base/path?session=...`
    func url(_ path: String, session: String? = nil) -> URL {
        var parts = URLComponents(url: base, resolvingAgainstBaseURL: false)!
        parts.path += "/" + path
        if let session {
            parts.queryItems = [URLQueryItem(name: "session", value: session)]
        }
        return parts.url!
    }
}

/// Whether a path stays in the folder it is put into.
func isInside(_ path: String) -> Bool {
    let parts = path.split(separator: "/", omittingEmptySubsequences: false)
    let strange = path.contains("\\") || path.contains("\0")
    return !strange && !parts.contains { $0.isEmpty || $0 == "." || $0 == ".." }
}
