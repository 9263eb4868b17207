// What the phone is and how it is doing, and what would make its latencies mean nothing.

import Foundation
import UIKit

let runtimeNames = ["coreml", "coreml-ne", "coreml-gpu", "coreml-cpu"]

/// Core ML comes with the system: its version is the system's.
func systemVersion() -> String {
    let version = ProcessInfo.processInfo.operatingSystemVersion
    var text = "iOS \(version.majorVersion).\(version.minorVersion)"
    if version.patchVersion > 0 {
        text += ".\(version.patchVersion)"
    }
    let build = systemText("kern.osversion")
    return build.isEmpty ? text : "\(text) (\(build))"
}

/// A text that `sysctlbyname` knows; empty where it does not.
func systemText(_ name: String) -> String {
    var size = 0
    guard sysctlbyname(name, nil, &size, nil, 0) == 0, size > 0 else { return "" }
    var bytes = [UInt8](repeating: 0, count: size)
    guard sysctlbyname(name, &bytes, &size, nil, 0) == 0 else { return "" }
    return String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
}

/// `iPhone15,2`: the model that Apple's lists name.
func machineName() -> String {
    var system = utsname()
    uname(&system)
    return withUnsafeBytes(of: system.machine) { bytes in
        String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
    }
}

func thermalState() -> Thermal {
    switch ProcessInfo.processInfo.thermalState {
    case .nominal: return .nominal
    case .fair: return .fair
    case .serious: return .serious
    case .critical: return .critical
    @unknown default: return .critical
    }
}

@MainActor
func describePhone() -> PhoneDescription {
    let process = ProcessInfo.processInfo
    let about = About(
        board: machineName(), architecture: "arm64", cores: process.processorCount, os: systemVersion(),
        memoryBytes: process.physicalMemory)
    let versions = Dictionary(uniqueKeysWithValues: runtimeNames.map { ($0, systemVersion()) })
    return PhoneDescription(
        id: "hello", about: about, conditions: currentConditions(), runtimes: versions, install: installName())
}

/// Made when the app first runs.
private func installName() -> String {
    let key = "install"
    if let known = UserDefaults.standard.string(forKey: key) { return known }
    let made = UUID().uuidString
    UserDefaults.standard.set(made, forKey: key)
    return made
}

@MainActor
func currentConditions() -> Conditions {
    let device = UIDevice.current
    device.isBatteryMonitoringEnabled = true
    let states: [UIDevice.BatteryState: String] = [
        .unplugged: "unplugged", .charging: "charging", .full: "full",
    ]
    let percent = device.batteryLevel < 0 ? nil : Int((device.batteryLevel * 100).rounded())
    let app = Bundle.main.object(forInfoDictionaryKey: "CFBundleShortVersionString") as? String
    return Conditions(
        thermal: thermalState(), lowPowerMode: ProcessInfo.processInfo.isLowPowerModeEnabled,
        battery: states[device.batteryState] ?? "unknown", batteryPercent: percent, app: app ?? "unknown")
}

/// What speaks against a measurement that ended just now.
func measurementFlags(after: Thermal) -> [String] {
    var flags: [String] = []
    if after.isHotter(than: .fair) {
        flags.append("throttled")
    }
    if ProcessInfo.processInfo.isLowPowerModeEnabled {
        flags.append("low power mode")
    }
    return flags
}

/// Why this app, as it runs now, must not measure; nil where it may.
func reasonNotToMeasure() -> String? {
    #if targetEnvironment(simulator)
        return "A simulator computes on the Mac's processor: its latencies are no phone's."
    #elseif DEBUG
        return "This is a debug build. Build the Release configuration: see the README."
    #else
        return isBeingDebugged() ? "A debugger is attached: it slows every call. Start the app from its icon." : nil
    #endif
}

private func isBeingDebugged() -> Bool {
    var info = kinfo_proc()
    var size = MemoryLayout<kinfo_proc>.stride
    var path: [Int32] = [CTL_KERN, KERN_PROC, KERN_PROC_PID, getpid()]
    let status = sysctl(&path, u_int(path.count), &info, &size, nil, 0)
    return status == 0 && (info.kp_proc.p_flag & P_TRACED) != 0
}
