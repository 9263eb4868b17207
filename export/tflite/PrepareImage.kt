// An image to the numbers that a model takes, by the description in the model's metadata. Belongs to Classify.kt and
// Segment.kt; Android 9 (API 28) and later.
//
// Android decodes; what comes then is computed here as Pillow and torch do it, so that the numbers are those of
// prepare_image.py. Android's own scaling would give others.

package nasvitedge

import android.graphics.Bitmap
import android.graphics.ColorSpace
import android.graphics.ImageDecoder
import android.os.Build
import java.io.ByteArrayOutputStream
import java.io.File
import java.nio.ByteBuffer
import kotlin.math.abs
import kotlin.math.floor
import kotlin.math.max
import kotlin.math.min
import kotlin.math.sign
import org.json.JSONArray
import org.json.JSONObject

const val LARGE = 50_000_000L // pixels: larger JPEG files are decoded at a half, a quarter or an eighth
const val MOST = 90_000_000L // pixels that are decoded
private const val STRIP = 1_000_000 // pixels that are read from a bitmap at a time
private const val BITS = 22 // of Pillow's weights behind the point

/** How images are resized, as Pillow does: `reach` pixels of the wider grid to each side, and what one at a distance weighs. */
enum class Filter(val reach: Double, val weight: (Double) -> Double) {
    BICUBIC(2.0, { cubic(it, -0.5) }),
    BILINEAR(1.0, { max(0.0, 1 - abs(it)) });

    companion object {
        val named = values().associateBy { it.name.lowercase() }
    }
}

/** `resize` has one number, the shorter side's, or two: height and width. So have `crop` and `size`. */
class Preparation(
    val resize: IntArray,
    val crop: IntArray,
    val size: IntArray,
    val mean: FloatArray,
    val std: FloatArray,
    val range: FloatArray = floatArrayOf(0f, 1f),
    val background: Int = 0xffffff, // RGB
    val filter: Filter = Filter.BICUBIC,
) {
    companion object {
        private val KNOWN: Map<String, Set<Any?>> =
            mapOf("orientation" to setOf("exif"), "color" to setOf("RGB"), "filter" to Filter.named.keys, "antialias" to setOf(true))

        /** Of a model's metadata. */
        fun of(metadata: JSONObject): Preparation {
            require(metadata.has("preparation")) {
                "the model does not say how images are prepared: an older nasvit-edge wrote it; export it again"
            }
            val found = JSONObject(metadata.getString("preparation"))
            for ((key, values) in KNOWN) {
                require(found.opt(key) in values) {
                    "the model wants images with $key ${found.opt(key)}, and this program knows only ${values.joinToString(" and ")}; " +
                        "use the program that was bundled with the model"
                }
            }
            val resize = found.get("resize")
            val (red, green, blue) = whole(found.getJSONArray("background"))
            return Preparation(
                if (resize is JSONArray) whole(resize) else intArrayOf(found.getInt("resize")),
                whole(found.getJSONArray("crop")),
                whole(found.getJSONArray("size")),
                floats(found.getJSONArray("mean")),
                floats(found.getJSONArray("std")),
                floats(found.getJSONArray("range")),
                (red shl 16) or (green shl 8) or blue,
                Filter.named.getValue(found.getString("filter")),
            )
        }

        private fun whole(values: JSONArray) = IntArray(values.length()) { values.getInt(it) }

        private fun floats(values: JSONArray) = FloatArray(values.length()) { values.getDouble(it).toFloat() }
    }
}

/** An upright image: ARGB of a part of it, row by row. */
interface Source {
    val width: Int
    val height: Int

    fun part(left: Int, top: Int, width: Int, height: Int): IntArray
}

class BitmapSource(private val bitmap: Bitmap) : Source {
    override val width get() = bitmap.width
    override val height get() = bitmap.height

    override fun part(left: Int, top: Int, width: Int, height: Int): IntArray =
        IntArray(width * height).also { bitmap.getPixels(it, 0, width, left, top, width, height) }
}

/** An image file, upright, in the colours that are stored. Of 16 bits Android keeps 8 by rounding. */
fun readImage(file: File, preparation: Preparation): Bitmap {
    val source = ImageDecoder.createSource(ByteBuffer.wrap(withoutProfile(file.readBytes())))
    val bitmap = ImageDecoder.decodeBitmap(source) { decoder, info, _ ->
        val (width, height) = info.size.width to info.size.height
        val share = if (info.mimeType == "image/jpeg") share(width, height, preparation.resize.min()) else 1
        require(width.toLong() * height <= MOST * share * share) {
            "$width x $height pixels are too many: at most ${MOST / 1_000_000} megapixels are taken, of JPEG files more"
        }
        decoder.setTargetSampleSize(share)
        decoder.allocator = ImageDecoder.ALLOCATOR_SOFTWARE // pixels of others cannot be read
        decoder.isUnpremultipliedRequired = true
    }
    // What still has a profile (HEIF) is not converted either where Android can be told so.
    if (Build.VERSION.SDK_INT >= 29 && bitmap.config == Bitmap.Config.ARGB_8888) {
        bitmap.setColorSpace(ColorSpace.get(ColorSpace.Named.SRGB))
    }
    return bitmap
}

/** At what share (1, 2, 4, 8) of its size a JPEG is decoded: what is left has at least `side` pixels a side. */
fun share(width: Int, height: Int, side: Int): Int {
    var share = 1
    while (width.toLong() * height > LARGE * share * share && share < 8 && min(width, height) >= 2 * share * side) share *= 2
    return share
}

/** A JPEG or PNG file without its colour profile, which Android would apply; any other file as it is. */
fun withoutProfile(file: ByteArray): ByteArray =
    when {
        startsWith(file, 0, "\u00ff\u00d8\u00ff") -> withoutParts(file, 2, ::jpegSegment)
        startsWith(file, 0, "\u0089PNG\r\n\u001a\n") -> withoutParts(file, 8, ::pngChunk)
        else -> file
    }

/** `partAt` gives the end of the part that starts somewhere, negative where it is to be left out; 0 where none follows. */
private fun withoutParts(file: ByteArray, first: Int, partAt: (ByteArray, Int) -> Int): ByteArray {
    val kept = ByteArrayOutputStream(file.size)
    kept.write(file, 0, first)
    var place = first
    while (true) {
        val end = partAt(file, place)
        if (abs(end) <= place || abs(end) > file.size) break
        if (end > 0) kept.write(file, place, end - place)
        place = abs(end)
    }
    kept.write(file, place, file.size - place)
    return kept.toByteArray()
}

private fun jpegSegment(file: ByteArray, place: Int): Int {
    if (place + 4 > file.size || byte(file, place) != 0xff || byte(file, place + 1) !in SEGMENTS) return 0
    val end = place + 2 + (byte(file, place + 2) shl 8) + byte(file, place + 3)
    return if (byte(file, place + 1) == 0xe2 && startsWith(file, place + 4, "ICC_PROFILE\u0000")) -end else end
}

private val SEGMENTS = (0xc0..0xfe) - (0xd0..0xda) // with a length, before the picture's data

private fun pngChunk(file: ByteArray, place: Int): Int {
    if (place + 12 > file.size || startsWith(file, place + 4, "IDAT") || byte(file, place) > 0x7e) return 0
    var length = 0
    for (i in 0 until 4) length = (length shl 8) or byte(file, place + i)
    if (length > file.size) return 0
    val end = place + 12 + length
    return if (listOf("iCCP", "gAMA", "cHRM", "sRGB", "cICP").any { startsWith(file, place + 4, it) }) -end else end
}

private fun byte(file: ByteArray, place: Int): Int = file[place].toInt() and 255

private fun startsWith(file: ByteArray, place: Int, text: String): Boolean =
    place + text.length <= file.size && text.indices.all { byte(file, place + it) == text[it].code }

data class Crop(val width: Int, val height: Int, val left: Int, val top: Int)

/** Width and height that the whole image is resized to, and left and top of the crop in that. */
fun geometry(width: Int, height: Int, preparation: Preparation): Crop {
    val resize = preparation.resize
    val shorter = min(width, height)
    val wide = if (resize.size > 1) resize[1] else (resize[0].toLong() * width / shorter).toInt()
    val tall = if (resize.size > 1) resize[0] else (resize[0].toLong() * height / shorter).toInt()
    return Crop(wide, tall, half(wide - preparation.crop[1]), half(tall - preparation.crop[0]))
}

/** Half of it; of two whole numbers equally near the even one. */
fun half(free: Int): Int = (free + (free shr 1 and 1)) shr 1

/** The bicubic kernel. */
fun cubic(distance: Double, a: Double): Double {
    val x = abs(distance)
    return when {
        x < 1 -> ((a + 2) * x - (a + 3)) * x * x + 1
        x < 2 -> (((x - 5) * x + 8) * x - 4) * a
        else -> 0.0
    }
}

/** What one output pixel is made of: weights, times 2^22, for the inputs from `start` on. */
class Taps(val start: Int, val weights: IntArray) {
    val end get() = start + weights.size

    inline fun sum(value: (Int) -> Int): Int {
        var total = 1 shl 21 // rounds
        for (i in weights.indices) total += weights[i] * value(start + i)
        return (total shr 22).coerceIn(0, 255)
    }
}

/** Outputs `first` until `first + count` of `length` pixels resized to `resized`, as Pillow does: wider when it shrinks. */
fun taps(filter: Filter, length: Int, resized: Int, first: Int, count: Int): List<Taps> {
    val scale = length.toDouble() / resized
    val wider = max(scale, 1.0)
    return List(count) {
        val centre = (first + it + 0.5) * scale
        val start = max(0, (centre - filter.reach * wider + 0.5).toInt())
        val end = min(length, (centre + filter.reach * wider + 0.5).toInt())
        val weights = DoubleArray(end - start) { i -> filter.weight((start + i - centre + 0.5) / wider) }
        val sum = weights.sum()
        Taps(start, IntArray(weights.size) { i -> fixed(weights[i] / sum) })
    }
}

/** A weight times 2^22, halves away from zero. */
fun fixed(weight: Double): Int = (weight * (1 shl BITS) + 0.5 * sign(weight)).toInt()

/** A colour over the background (RGB), rounded; its alpha is the upper byte. */
fun over(argb: Int, background: Int): Int {
    val alpha = argb ushr 24
    if (alpha == 255) return argb and 0xffffff
    var result = 0
    for (shift in intArrayOf(16, 8, 0)) {
        val sum = (argb shr shift and 255) * alpha + (background shr shift and 255) * (255 - alpha) + 128
        result = result or ((sum + (sum shr 8) shr 8) shl shift)
    }
    return result
}

/** An image to the RGB bytes of `crop`. */
fun cropped(source: Source, preparation: Preparation): IntArray {
    val (rows, columns) = preparation.crop
    val at = geometry(source.width, source.height, preparation)
    val across = taps(preparation.filter, source.width, at.width, at.left, columns)
    val down = taps(preparation.filter, source.height, at.height, at.top, rows)
    val first = down.first().start
    val narrow = narrowed(source, across, first, down.last().end, preparation.background)
    val row = columns * 3
    return IntArray(rows * row) { i ->
        down[i / row].sum { y -> narrow[(y - first) * row + i % row].toInt() and 255 }
    }
}

/** The rows from `first` until `last` of an image, each resized; they are read a strip at a time. */
private fun narrowed(source: Source, across: List<Taps>, first: Int, last: Int, background: Int): ByteArray {
    val left = across.first().start
    val width = across.last().end - left
    val narrow = ByteArray((last - first) * across.size * 3)
    val strip = max(1, STRIP / width)
    var place = 0
    for (top in first until last step strip) {
        val rows = min(strip, last - top)
        val argb = source.part(left, top, width, rows)
        for (i in argb.indices) argb[i] = over(argb[i], background)
        for (y in 0 until rows) for (taps in across) for (shift in SHIFTS) {
            val sum = taps.sum { x -> argb[y * width + x - left] shr shift and 255 }
            narrow[place++] = sum.toByte()
        }
    }
    return narrow
}

private val SHIFTS = intArrayOf(16, 8, 0) // of red, green and blue

/** The bytes of `crop` to `size`: floats from 0 to 255, a little beyond where they are resized. */
fun inputValues(crop: IntArray, preparation: Preparation): FloatArray {
    val (height, width) = preparation.crop
    val (rows, columns) = preparation.size
    val tall = resizedFloats(FloatArray(crop.size) { crop[it].toFloat() }, 1, height, rows, width * 3)
    return resizedFloats(tall, rows, width, columns, 3)
}

/** One axis of `lines` blocks of length * step values to another size: a = -0.75, not wider, edges repeated. */
private fun resizedFloats(values: FloatArray, lines: Int, length: Int, size: Int, step: Int): FloatArray {
    if (length == size) return values
    val result = FloatArray(lines * size * step)
    for (i in 0 until size) {
        val centre = (i + 0.5) * length / size - 0.5
        for (tap in -1..2) {
            val place = floor(centre).toInt() + tap
            val weight = cubic(centre - place, -0.75).toFloat()
            val from = place.coerceIn(0, length - 1)
            for (line in 0 until lines) for (k in 0 until step) {
                result[(line * size + i) * step + k] += weight * values[(line * length + from) * step + k]
            }
        }
    }
    return result
}

/** Values from 0 to 255 to `range`, minus `mean`, over `std`. */
fun normalised(values: FloatArray, preparation: Preparation): FloatArray {
    val (low, high) = preparation.range
    return FloatArray(values.size) {
        (values[it] * ((high - low) / 255) + low - preparation.mean[it % 3]) / preparation.std[it % 3]
    }
}

/** An image to what the model takes, height * width * 3. */
fun prepared(source: Source, preparation: Preparation): FloatArray =
    normalised(inputValues(cropped(source, preparation), preparation), preparation)
