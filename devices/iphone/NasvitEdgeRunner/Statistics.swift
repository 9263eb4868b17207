// When sampling stops, and the values that models are fed. The formulas are those of devices/host/runner.py.

import Foundation

/// The middle of the values; the mean of both middles where their number is even.
func median(_ values: [Double]) -> Double {
    let ordered = values.sorted()
    let middle = ordered.count / 2
    if ordered.count % 2 == 1 {
        return ordered[middle]
    }
    return (ordered[middle - 1] + ordered[middle]) / 2
}

/// The width of the 95 % interval of the median (by order statistics), relative to the median.
func interval(_ taken: [Double]) -> Double {
    let ordered = taken.sorted()
    let count = Double(ordered.count)
    let reach = 0.98 * sqrt(count)
    let low = Int(floor(count / 2 - reach))
    let high = Int(ceil(count / 2 + reach))
    if low < 0 || high >= ordered.count {
        return Double.infinity
    }
    return (ordered[high] - ordered[low]) / ordered[ordered.count / 2]
}

/// At least `runs` samples and `seconds`, then until the median is known to `precision`, at most `mostSeconds`.
struct StopRule {
    let runs: Int
    let seconds: Double
    let mostSeconds: Double
    let precision: Double

    func isOver(_ taken: [Double], spent: Double) -> Bool {
        let enough = taken.count >= runs && spent >= seconds
        return spent > mostSeconds || (enough && interval(taken) <= precision)
    }
}

/// Every so-manieth value, so that at most `most` are left.
func thinned(_ values: [Double], most: Int) -> [Double] {
    let step = max(1, (values.count + most - 1) / most)
    return stride(from: 0, to: values.count, by: step).map { values[$0] }
}

/// Normal values that follow from a seed alone: SplitMix64, then Box and Muller.
struct SeededNormals {
    private var state: UInt64

    init(seed: UInt64) {
        state = seed
    }

    mutating func values(_ count: Int) -> [Float] {
        (0..<count).map { _ in next() }
    }

    private mutating func next() -> Float {
        let radius = sqrt(-2 * log(uniform()))
        return Float(radius * cos(2 * Double.pi * uniform()))
    }

    /// In (0, 1]: its logarithm is finite.
    private mutating func uniform() -> Double {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        mixed ^= mixed >> 31
        return (Double(mixed >> 11) + 1) / 9_007_199_254_740_992
    }
}
