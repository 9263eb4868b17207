// An image file to the pixels that a model takes, by the description in the model's metadata. Belongs to Classify.swift and
// Segment.swift.
//
// ImageIO decodes; what comes then is computed here as Pillow and torch do it, so that the pixels are those of
// prepare_image.py. Core Graphics' drawing would convert colours and resize by other rules.

import Foundation

let largeJPEG = 50_000_000  // pixels: larger JPEG files are decoded at a half, a quarter or an eighth
let mostPixels = 90_000_000  // pixels that are decoded
let stripPixels = 1_000_000  // pixels that are made upright at a time

struct PreparationFailure: LocalizedError {
    let errorDescription: String?

    init(_ text: String) {
        errorDescription = text
    }
}

/// How images are resized, as Pillow does.
enum Filter: String, CaseIterable {
    case bicubic, bilinear

    /// Pixels of the wider grid to each side that have a weight.
    var reach: Double {
        return self == .bicubic ? 2 : 1
    }

    func weight(_ distance: Double) -> Double {
        return self == .bicubic ? cubic(distance, -0.5) : max(0, 1 - abs(distance))
    }
}

/// `resize` has one number, the shorter side's, or two: height and width. So have `crop` and `size`.
struct Preparation: Decodable {
    let resize: [Int]
    let crop: [Int]
    let size: [Int]
    let background: [Int]
    let filter: Filter

    private enum CodingKeys: String, CodingKey {
        case resize, crop, size, background, orientation, color, filter, antialias
    }

    init(resize: [Int], crop: [Int], size: [Int], background: [Int] = [255, 255, 255], filter: Filter = .bicubic) {
        self.resize = resize
        self.crop = crop
        self.size = size
        self.background = background
        self.filter = filter
    }

    init(from decoder: Decoder) throws {
        let values = try decoder.container(keyedBy: CodingKeys.self)
        for (key, known) in [(CodingKeys.orientation, "exif"), (.color, "RGB")] {
            let wanted = try values.decode(String.self, forKey: key)
            guard wanted == known else {
                throw Preparation.refused(key, wanted, known: [known])
            }
        }
        let wanted = try values.decode(String.self, forKey: .filter)
        guard let known = Filter(rawValue: wanted) else {
            throw Preparation.refused(.filter, wanted, known: Filter.allCases.map { $0.rawValue })
        }
        filter = known
        guard try values.decode(Bool.self, forKey: .antialias) else {
            throw PreparationFailure(
                "the model wants images without antialias; use the program that was bundled with the model")
        }
        let side = try? values.decode(Int.self, forKey: .resize)
        resize = try side.map { [$0] } ?? values.decode([Int].self, forKey: .resize)
        crop = try values.decode([Int].self, forKey: .crop)
        size = try values.decode([Int].self, forKey: .size)
        background = try values.decode([Int].self, forKey: .background)
    }

    private static func refused(_ key: CodingKeys, _ wanted: String, known: [String]) -> PreparationFailure {
        let only = known.joined(separator: " and ")
        return PreparationFailure(
            "the model wants images with \(key.rawValue) \(wanted), and this program knows only \(only); "
                + "use the program that was bundled with the model")
    }

    /// Of a model's metadata.
    static func of(_ metadata: [String: String]) throws -> Preparation {
        guard let text = metadata["preparation"] else {
            throw PreparationFailure(
                "the model does not say how images are prepared: an older nasvit-edge wrote it; export it again")
        }
        return try JSONDecoder().decode(Preparation.self, from: Data(text.utf8))
    }
}

/// Pixels as a decoder holds them: nothing is converted yet.
struct Stored {
    enum Colours {
        case grey, rgb, cmyk
        case indexed([UInt8])  // red, green and blue of each index
    }

    enum Alpha {
        case none, straight, premultiplied
    }

    let bytes: Data
    let width: Int
    let height: Int
    let bytesPerRow: Int
    let bits: Int  // of a component: 1, 2, 4, 8 or 16
    let components: Int  // of a pixel, alpha or what is skipped included
    let colours: Colours
    let alpha: Alpha
    var alphaFirst = false  // alpha, or what is skipped, comes before the colours
    var reversed = false  // a pixel's components of 8 bits are in reverse order
    var little = false  // components of 16 bits have their upper byte last
    var inverted = false

    /// Component `index` of a pixel as a byte; an index into a palette as it is.
    func level(_ raw: UnsafeRawBufferPointer, x: Int, y: Int, index: Int) -> Int {
        let row = y * bytesPerRow
        switch bits {
        case 8:
            let value = Int(raw[row + x * components + (reversed ? components - 1 - index : index)])
            return inverted ? 255 - value : value
        case 16:
            let value = Int(raw[row + 2 * (x * components + index) + (little ? 1 : 0)])
            return inverted ? 255 - value : value
        default:
            let place = (x * components + index) * bits
            let mask = (1 << bits) - 1
            let value = (Int(raw[row + place / 8]) >> (8 - bits - place % 8)) & mask
            if case .indexed = colours {
                return value
            }
            return (inverted ? mask - value : value) * 255 / mask
        }
    }

    /// Red, green and blue of a pixel over a background.
    func pixel(_ raw: UnsafeRawBufferPointer, x: Int, y: Int, background: [Int]) -> RGB {
        let colour = stored(raw, x: x, y: y)
        if case .none = alpha {
            return colour
        }
        let opacity = level(raw, x: x, y: y, index: alphaFirst ? 0 : components - 1)
        if case .straight = alpha {
            return colour.with(background) { rounded255($0 * opacity + $1 * (255 - opacity)) }
        }
        return colour.with(background) { min(255, $0 + rounded255($1 * (255 - opacity))) }
    }

    private func stored(_ raw: UnsafeRawBufferPointer, x: Int, y: Int) -> RGB {
        let first = alphaFirst ? 1 : 0
        let red = level(raw, x: x, y: y, index: first)
        if case .grey = colours {
            return RGB(red: red, green: red, blue: red)
        }
        if case .indexed(let palette) = colours {
            return RGB(red: Int(palette[3 * red]), green: Int(palette[3 * red + 1]), blue: Int(palette[3 * red + 2]))
        }
        let green = level(raw, x: x, y: y, index: first + 1)
        let blue = level(raw, x: x, y: y, index: first + 2)
        if case .cmyk = colours {
            let light = 255 - level(raw, x: x, y: y, index: first + 3)
            return RGB(
                red: light - rounded255(red * light), green: light - rounded255(green * light),
                blue: light - rounded255(blue * light))
        }
        return RGB(red: red, green: green, blue: blue)
    }
}

struct RGB {
    let red: Int
    let green: Int
    let blue: Int

    func with(_ other: [Int], _ made: (Int, Int) -> Int) -> RGB {
        return RGB(red: made(red, other[0]), green: made(green, other[1]), blue: made(blue, other[2]))
    }
}

/// A product of two bytes over 255, rounded.
func rounded255(_ product: Int) -> Int {
    let sum = product + 128
    return (sum + (sum >> 8)) >> 8
}

/// An image, upright.
struct Upright {
    let stored: Stored
    let orientation: Int  // EXIF's, 1 to 8
    let background: [Int]

    var width: Int {
        return orientation > 4 ? stored.height : stored.width
    }

    var height: Int {
        return orientation > 4 ? stored.width : stored.height
    }

    /// RGB bytes of a part of it, row by row.
    func part(left: Int, top: Int, width: Int, height: Int) -> [UInt8] {
        var made = [UInt8]()
        made.reserveCapacity(3 * width * height)
        stored.bytes.withUnsafeBytes { raw in
            for y in top..<(top + height) {
                for x in left..<(left + width) {
                    let place = storedPlace(x: x, y: y, width: self.width, height: self.height, orientation: orientation)
                    let colour = stored.pixel(raw, x: place.x, y: place.y, background: background)
                    made.append(UInt8(colour.red))
                    made.append(UInt8(colour.green))
                    made.append(UInt8(colour.blue))
                }
            }
        }
        return made
    }
}

/// Where the pixel at (x, y) of an upright image of width x height is stored.
func storedPlace(x: Int, y: Int, width: Int, height: Int, orientation: Int) -> (x: Int, y: Int) {
    let fromRight = width - 1 - x
    let fromBottom = height - 1 - y
    switch orientation {
    case 2: return (fromRight, y)
    case 3: return (fromRight, fromBottom)
    case 4: return (x, fromBottom)
    case 5: return (y, x)
    case 6: return (y, fromRight)
    case 7: return (fromBottom, fromRight)
    case 8: return (fromBottom, x)
    default: return (x, y)
    }
}

/// At what share (1, 2, 4, 8) of its size a JPEG is decoded: what is left has at least `side` pixels a side.
func samplingShare(width: Int, height: Int, side: Int) -> Int {
    var share = 1
    while width * height > largeJPEG * share * share && share < 8 && min(width, height) >= 2 * share * side {
        share *= 2
    }
    return share
}

struct Crop: Equatable {
    let width: Int
    let height: Int
    let left: Int
    let top: Int
}

/// Width and height that the whole image is resized to, and left and top of the crop in that.
func geometry(width: Int, height: Int, preparation: Preparation) -> Crop {
    let resize = preparation.resize
    let shorter = min(width, height)
    let wide = resize.count > 1 ? resize[1] : resize[0] * width / shorter
    let tall = resize.count > 1 ? resize[0] : resize[0] * height / shorter
    let left = half(wide - preparation.crop[1])
    let top = half(tall - preparation.crop[0])
    return Crop(width: wide, height: tall, left: left, top: top)
}

/// Half of it; of two whole numbers equally near the even one.
func half(_ free: Int) -> Int {
    return (free + ((free >> 1) & 1)) >> 1
}

/// The bicubic kernel.
func cubic(_ distance: Double, _ a: Double) -> Double {
    let x = abs(distance)
    if x < 1 {
        return ((a + 2) * x - (a + 3)) * x * x + 1
    }
    if x < 2 {
        return (((x - 5) * x + 8) * x - 4) * a
    }
    return 0
}

/// What one output pixel is made of: weights, times 2^22, for the inputs from `start` on.
struct Taps {
    let start: Int
    let weights: [Int]

    var end: Int {
        return start + weights.count
    }

    /// Every `step`-th byte from a place on, weighted; rounded.
    func sum(_ bytes: [UInt8], from place: Int, step: Int) -> UInt8 {
        var total = 1 << 21
        for (index, weight) in weights.enumerated() {
            total += weight * Int(bytes[place + index * step])
        }
        return UInt8(min(max(total >> 22, 0), 255))
    }
}

/// Outputs `first` until `first + count` of `length` pixels resized to `resized`, as Pillow does: wider when it shrinks.
func taps(_ filter: Filter, length: Int, resized: Int, first: Int, count: Int) -> [Taps] {
    let scale = Double(length) / Double(resized)
    let wider = max(scale, 1)
    return (first..<(first + count)).map { output in
        let centre = (Double(output) + 0.5) * scale
        let start = max(0, Int(centre - filter.reach * wider + 0.5))
        let end = min(length, Int(centre + filter.reach * wider + 0.5))
        let weights = (start..<end).map { filter.weight((Double($0) - centre + 0.5) / wider) }
        let sum = weights.reduce(0, +)
        return Taps(start: start, weights: weights.map { fixed($0 / sum) })
    }
}

/// A weight times 2^22, halves away from zero.
func fixed(_ weight: Double) -> Int {
    return Int(weight * 4_194_304 + (weight < 0 ? -0.5 : 0.5))
}

/// An image to the RGB bytes of `crop`.
func cropped(_ image: Upright, _ preparation: Preparation) -> [UInt8] {
    let rows = preparation.crop[0]
    let row = 3 * preparation.crop[1]
    let at = geometry(width: image.width, height: image.height, preparation: preparation)
    let filter = preparation.filter
    let across = taps(filter, length: image.width, resized: at.width, first: at.left, count: preparation.crop[1])
    let down = taps(filter, length: image.height, resized: at.height, first: at.top, count: rows)
    let first = down[0].start
    let narrow = narrowed(image, across: across, first: first, last: down[rows - 1].end)
    var made = [UInt8]()
    made.reserveCapacity(rows * row)
    for taps in down {
        for index in 0..<row {
            made.append(taps.sum(narrow, from: (taps.start - first) * row + index, step: row))
        }
    }
    return made
}

/// The rows from `first` until `last` of an image, each resized; they are made a strip at a time.
func narrowed(_ image: Upright, across: [Taps], first: Int, last: Int) -> [UInt8] {
    let left = across[0].start
    let width = across[across.count - 1].end - left
    let rows = max(1, stripPixels / width)
    var narrow = [UInt8]()
    narrow.reserveCapacity((last - first) * across.count * 3)
    for top in stride(from: first, to: last, by: rows) {
        let count = min(rows, last - top)
        let bytes = image.part(left: left, top: top, width: width, height: count)
        for y in 0..<count {
            for taps in across {
                for channel in 0..<3 {
                    narrow.append(taps.sum(bytes, from: 3 * (y * width + taps.start - left) + channel, step: 3))
                }
            }
        }
    }
    return narrow
}

/// The bytes of `crop` to `size`: floats from 0 to 255, a little beyond where they are resized.
func inputValues(_ crop: [UInt8], _ preparation: Preparation) -> [Float] {
    let height = preparation.crop[0]
    let width = preparation.crop[1]
    let tall = resizedFloats(crop.map { Float($0) }, lines: 1, length: height, size: preparation.size[0], step: 3 * width)
    return resizedFloats(tall, lines: preparation.size[0], length: width, size: preparation.size[1], step: 3)
}

/// One axis of `lines` blocks of length * step values to another size: a = -0.75, not wider, edges repeated.
func resizedFloats(_ values: [Float], lines: Int, length: Int, size: Int, step: Int) -> [Float] {
    if length == size {
        return values
    }
    var made = [Float](repeating: 0, count: lines * size * step)
    for output in 0..<size {
        let centre = (Double(output) + 0.5) * Double(length) / Double(size) - 0.5
        for tap in -1...2 {
            let place = Int(floor(centre)) + tap
            let weight = Float(cubic(centre - Double(place), -0.75))
            let from = min(max(place, 0), length - 1)
            for line in 0..<lines {
                for index in 0..<step {
                    made[(line * size + output) * step + index] += weight * values[(line * length + from) * step + index]
                }
            }
        }
    }
    return made
}

/// An image to the RGB bytes of `size`.
func inputBytes(_ image: Upright, _ preparation: Preparation) -> [UInt8] {
    return inputValues(cropped(image, preparation), preparation).map { UInt8(min(max(floor($0 + 0.5), 0), 255)) }
}

#if canImport(ImageIO)
    import CoreGraphics
    import CoreVideo
    import ImageIO

    /// An image file, in the colours that are stored: profiles are not applied.
    func readImage(at url: URL, preparation: Preparation) throws -> Upright {
        guard let source = CGImageSourceCreateWithURL(url as CFURL, nil),
            let about = CGImageSourceCopyPropertiesAtIndex(source, 0, nil) as? [CFString: Any],
            let width = about[kCGImagePropertyPixelWidth] as? Int,
            let height = about[kCGImagePropertyPixelHeight] as? Int, width > 0, height > 0
        else {
            throw PreparationFailure("\(url.path) is not an image")
        }
        let isJPEG = CGImageSourceGetType(source).map { $0 as String } == "public.jpeg"
        let side = preparation.resize.min() ?? 1
        let share = isJPEG ? samplingShare(width: width, height: height, side: side) : 1
        guard width * height <= mostPixels * share * share else {
            throw PreparationFailure(
                "\(width) x \(height) pixels are too many: at most \(mostPixels / 1_000_000) megapixels are taken, of JPEG files more")
        }
        let options = share > 1 ? [kCGImageSourceSubsampleFactor: share] as CFDictionary : nil
        guard let image = CGImageSourceCreateImageAtIndex(source, 0, options) else {
            throw PreparationFailure("\(url.path) is damaged")
        }
        let orientation = about[kCGImagePropertyOrientation] as? Int ?? 1
        return Upright(stored: try stored(image), orientation: orientation, background: preparation.background)
    }

    /// A decoded image's own bytes, and how they are to be read.
    func stored(_ image: CGImage) throws -> Stored {
        let info = image.bitmapInfo
        let bits = image.bitsPerComponent
        guard let space = image.colorSpace, let kind = colours(of: space),
            let data = image.dataProvider?.data, [1, 2, 4, 8, 16].contains(bits),
            image.bitsPerPixel % bits == 0, !info.contains(.floatComponents), image.alphaInfo != .alphaOnly
        else {
            throw PreparationFailure("its pixels are of a kind that is not read here (\(bits) bits each)")
        }
        let order = info.intersection(.byteOrderMask)
        return Stored(
            bytes: data as Data, width: image.width, height: image.height, bytesPerRow: image.bytesPerRow, bits: bits,
            components: image.bitsPerPixel / bits, colours: kind, alpha: alpha(of: image.alphaInfo),
            alphaFirst: [.first, .premultipliedFirst, .noneSkipFirst].contains(image.alphaInfo),
            reversed: order == .byteOrder32Little, little: order == .byteOrder16Little,
            inverted: image.decode.map { $0[0] > $0[1] } ?? false)
    }

    private func alpha(of info: CGImageAlphaInfo) -> Stored.Alpha {
        switch info {
        case .first, .last: return .straight
        case .premultipliedFirst, .premultipliedLast: return .premultiplied
        default: return .none
        }
    }

    private func colours(of space: CGColorSpace) -> Stored.Colours? {
        switch space.model {
        case .monochrome: return .grey
        case .rgb: return .rgb
        case .cmyk: return .cmyk
        case .indexed: return space.baseColorSpace?.model == .rgb ? space.colorTable.map { .indexed($0) } : nil
        default: return nil
        }
    }

    /// What the model takes of an image.
    func pixelBuffer(of image: Upright, preparation: Preparation) throws -> CVPixelBuffer {
        let height = preparation.size[0]
        let width = preparation.size[1]
        var created: CVPixelBuffer?
        CVPixelBufferCreate(kCFAllocatorDefault, width, height, kCVPixelFormatType_32BGRA, nil, &created)
        guard let buffer = created else {
            throw PreparationFailure("no memory for \(width) x \(height) pixels")
        }
        CVPixelBufferLockBaseAddress(buffer, [])
        defer { CVPixelBufferUnlockBaseAddress(buffer, []) }
        guard let base = CVPixelBufferGetBaseAddress(buffer) else {
            throw PreparationFailure("no memory for \(width) x \(height) pixels")
        }
        let rgb = inputBytes(image, preparation)
        let bytes = base.assumingMemoryBound(to: UInt8.self)
        let row = CVPixelBufferGetBytesPerRow(buffer)
        for y in 0..<height {
            for x in 0..<width {
                let from = 3 * (y * width + x)
                let to = y * row + 4 * x
                bytes[to] = rgb[from + 2]
                bytes[to + 1] = rgb[from + 1]
                bytes[to + 2] = rgb[from]
                bytes[to + 3] = 255
            }
        }
        return buffer
    }
#endif
