// Computes what each line of standard input asks for; fields between spaces, numbers between commas. One line an answer.

import Foundation

func numbers(_ text: String) -> [Int] {
    return text.split(separator: ",").map { Int($0)! }
}

func rgba(_ path: String, _ size: [Int]) -> Upright {
    let stored = Stored(
        bytes: FileManager.default.contents(atPath: path)!, width: size[0], height: size[1], bytesPerRow: 4 * size[0], bits: 8,
        components: 4, colours: .rgb, alpha: .straight)
    return Upright(stored: stored, orientation: 1, background: [255, 255, 255])
}

func image(_ fields: [String]) -> (Upright, Preparation) {
    let filter = fields.count > 5 ? Filter(rawValue: fields[5])! : .bicubic
    let preparation = Preparation(
        resize: numbers(fields[2]), crop: numbers(fields[3]), size: numbers(fields[4]), filter: filter)
    return (rgba(fields[0], numbers(fields[1])), preparation)
}

/// A picture of another layout: bits, components, kind, alpha, and what else is set.
func laidOut(_ fields: [String]) -> [Int] {
    let size = numbers(fields[1])
    let layout = numbers(fields[2])  // bits, components, bytes a row, orientation
    let palette = fields[5] == "-" ? [] : numbers(fields[5]).map { UInt8($0) }
    let kinds: [String: Stored.Colours] = ["grey": .grey, "rgb": .rgb, "cmyk": .cmyk, "indexed": .indexed(palette)]
    let alphas: [String: Stored.Alpha] = ["none": .none, "straight": .straight, "premultiplied": .premultiplied]
    let flags = fields[4].split(separator: ",")
    let stored = Stored(
        bytes: FileManager.default.contents(atPath: fields[0])!, width: size[0], height: size[1], bytesPerRow: layout[2],
        bits: layout[0], components: layout[1], colours: kinds[fields[3]]!, alpha: alphas[String(flags[0])]!,
        alphaFirst: flags.contains("first"), reversed: flags.contains("reversed"), little: flags.contains("little"),
        inverted: flags.contains("inverted"))
    let upright = Upright(stored: stored, orientation: layout[3], background: [255, 255, 255])
    return upright.part(left: 0, top: 0, width: upright.width, height: upright.height).map { Int($0) }
}

func answer(_ name: String, _ fields: [String]) throws -> [String] {
    switch name {
    case "geometry":
        let size = numbers(fields[0])
        let wanted = Preparation(resize: numbers(fields[1]), crop: numbers(fields[2]), size: [1, 1])
        let at = geometry(width: size[0], height: size[1], preparation: wanted)
        return [at.width, at.height, at.left, at.top].map { String($0) }
    case "share":
        let given = numbers(fields[0])
        return [String(samplingShare(width: given[0], height: given[1], side: given[2]))]
    case "over":
        let colour = numbers(fields[0]).map { UInt8($0) }
        let stored = Stored(
            bytes: Data(colour), width: 1, height: 1, bytesPerRow: 4, bits: 8, components: 4, colours: .rgb, alpha: .straight)
        let upright = Upright(stored: stored, orientation: 1, background: numbers(fields[1]))
        return upright.part(left: 0, top: 0, width: 1, height: 1).map { String($0) }
    case "bicubic":
        let bytes = numbers(fields[0]).map { UInt8($0) }
        let weighted = taps(
            .bicubic, length: bytes.count, resized: Int(fields[1])!, first: Int(fields[2])!, count: Int(fields[3])!)
        return weighted.map { String($0.sum(bytes, from: $0.start, step: 1)) }
    case "floats":
        let values = numbers(fields[0])
        let made = resizedFloats(values.map { Float($0) }, lines: 1, length: values.count, size: Int(fields[1])!, step: 1)
        return made.map { String($0) }
    case "place":
        let size = numbers(fields[0])  // of the upright image
        var places = [String]()
        for y in 0..<size[1] {
            for x in 0..<size[0] {
                let at = storedPlace(x: x, y: y, width: size[0], height: size[1], orientation: Int(fields[1])!)
                places += [String(at.x), String(at.y)]
            }
        }
        return places
    case "crop":
        let (upright, wanted) = image(fields)
        return cropped(upright, wanted).map { String($0) }
    case "values":
        let (upright, wanted) = image(fields)
        return inputValues(cropped(upright, wanted), wanted).map { String($0) }
    case "bytes":
        let (upright, wanted) = image(fields)
        return inputBytes(upright, wanted).map { String($0) }
    case "layout":
        return laidOut(fields).map { String($0) }
    case "described":
        do {
            let text = try String(contentsOfFile: fields[0], encoding: .utf8)
            let found = try Preparation.of(["preparation": text])
            let numbers = [found.resize, found.crop, found.size, found.background]
            return numbers.map { $0.map { String($0) }.joined(separator: "x") } + [found.filter.rawValue]
        } catch {
            return ["error: \(error.localizedDescription)"]
        }
    default:
        fatalError("unknown operation \(name)")
    }
}

while let line = readLine() {
    let fields = line.split(separator: " ").map { String($0) }
    print(try answer(fields[0], Array(fields.dropFirst())).joined(separator: ","))
}
