// Computes what each line of standard input asks for; fields between spaces, numbers between commas. One line an answer.

import java.io.File
import java.nio.ByteBuffer
import nasvitedge.BitmapSource
import nasvitedge.Classifier
import nasvitedge.Filter
import nasvitedge.Preparation
import nasvitedge.Source
import nasvitedge.cropped
import nasvitedge.dequantise
import nasvitedge.geometry
import nasvitedge.inputValues
import nasvitedge.normalised
import nasvitedge.over
import nasvitedge.quantise
import nasvitedge.readImage
import nasvitedge.share
import nasvitedge.softmax
import nasvitedge.taps
import nasvitedge.topFive
import nasvitedge.withoutProfile
import nasvitedge.segment.Segmenter
import nasvitedge.segment.largest
import nasvitedge.segment.mixed
import nasvitedge.segment.nearest
import org.json.JSONObject

class Whole(override val width: Int, override val height: Int, private val argb: IntArray) : Source {
    override fun part(left: Int, top: Int, width: Int, height: Int) =
        IntArray(width * height) { argb[(top + it / width) * this.width + left + it % width] }
}

fun numbers(text: String) = text.split(",").map { it.toInt() }.toIntArray()

fun floats(text: String) = text.split(",").map { it.toFloat() }.toFloatArray()

fun rgb(values: IntArray) = (values[0] shl 16) or (values[1] shl 8) or values[2]

fun parts(colour: Int) = listOf(colour shr 16 and 255, colour shr 8 and 255, colour and 255)

fun preparation(
    resize: String,
    crop: String,
    size: String = crop,
    mean: FloatArray = FloatArray(3),
    std: FloatArray = FloatArray(3) { 1f },
    range: FloatArray = floatArrayOf(0f, 255f),
    filter: Filter = Filter.BICUBIC,
) = Preparation(numbers(resize), numbers(crop), numbers(size), mean, std, range, filter = filter)

fun image(fields: List<String>): Pair<Source, Preparation> {
    val (width, height) = numbers(fields[1])
    val bytes = File(fields[0]).readBytes()
    fun byte(place: Int) = bytes[place].toInt() and 255
    val argb = IntArray(width * height) {
        (byte(4 * it + 3) shl 24) or (byte(4 * it) shl 16) or (byte(4 * it + 1) shl 8) or byte(4 * it + 2)
    }
    val filter = Filter.named.getValue(fields.getOrElse(5) { "bicubic" })
    return Whole(width, height, argb) to preparation(fields[2], fields[3], fields[4], filter = filter)
}

/** A model's buffer and its sidecar, as an app has them. */
fun model(path: String): Pair<ByteBuffer, String> {
    val bytes = File(path).readBytes()
    return ByteBuffer.allocateDirect(bytes.size).put(bytes) to File("$path.json").readText()
}

val classifiers = mutableMapOf<String, Classifier>()
val segmenters = mutableMapOf<String, Segmenter>()

fun answer(name: String, fields: List<String>): List<Any> {
    when (name) {
        "geometry" -> {
            val (width, height) = numbers(fields[0])
            val at = geometry(width, height, preparation(fields[1], fields[2]))
            return listOf(at.width, at.height, at.left, at.top)
        }
        "share" -> return numbers(fields[0]).let { listOf(share(it[0], it[1], it[2])) }
        "over" -> {
            val rgba = numbers(fields[0])
            return parts(over((rgba[3] shl 24) or rgb(rgba), rgb(numbers(fields[1]))))
        }
        "bicubic" -> {
            val bytes = numbers(fields[0])
            val weighted = taps(Filter.BICUBIC, bytes.size, fields[1].toInt(), fields[2].toInt(), fields[3].toInt())
            return weighted.map { it.sum { i -> bytes[i] } }
        }
        "floats" -> {
            val values = numbers(fields[0])
            val crop = IntArray(3 * values.size) { values[it / 3] }
            val made = inputValues(crop, preparation("1", "1,${values.size}", "1,${fields[1]}"))
            return made.toList().filterIndexed { i, _ -> i % 3 == 0 }
        }
        "normalise" ->
            return normalised(floats(fields[0]), preparation("1", "1,1", "1,1", floats(fields[1]), floats(fields[2]), floats(fields[3]))).toList()
        "softmax" -> return softmax(floats(fields[0])).toList()
        "five" -> return topFive(softmax(floats(fields[0])))
        "quantise" -> return floats(fields[0]).map { quantise(it, fields[1].toFloat(), fields[2].toInt()) }
        "dequantise" -> return numbers(fields[0]).map { dequantise(it.toByte(), fields[1].toFloat(), fields[2].toInt()) }
        "nearest" -> return List(fields[1].toInt()) { nearest(it, fields[0].toInt(), fields[1].toInt()) }
        "mix" -> return parts(mixed(rgb(numbers(fields[0])), rgb(numbers(fields[1]))))
        "largest" -> {
            val (height, width, newHeight, newWidth) = numbers(fields[1])
            return largest(floats(fields[0]), height, width, newHeight, newWidth).toList()
        }
        "crop" -> return image(fields).let { (source, wanted) -> cropped(source, wanted).toList() }
        "values" -> return image(fields).let { (source, wanted) -> inputValues(cropped(source, wanted), wanted).toList() }
        "pixels" -> {
            val wanted = Preparation.of(JSONObject(model(fields[0]).second).getJSONObject("metadata"))
            return cropped(BitmapSource(readImage(File(fields[1]), wanted)), wanted).toList()
        }
        "classify" -> {
            val classifier = classifiers.getOrPut(fields[0]) { model(fields[0]).let { (content, sidecar) -> Classifier(content, sidecar) } }
            return classifier.classify(File(fields[1])).classes.flatMap { (label, share) -> listOf(label, share) }
        }
        "segment" -> { // its overlay becomes a file of RGB bytes
            val segmenter = segmenters.getOrPut(fields[0]) { model(fields[0]).let { (content, sidecar) -> Segmenter(content, sidecar) } }
            val outcome = segmenter.segment(File(fields[1]))
            val (width, height) = outcome.overlay.width to outcome.overlay.height
            val argb = IntArray(width * height).also { outcome.overlay.getPixels(it, 0, width, 0, 0, width, height) }
            File(fields[2]).writeBytes(ByteArray(3 * argb.size) { (argb[it / 3] shr 16 - 8 * (it % 3)).toByte() })
            return outcome.shares.flatMap { (label, share) -> listOf(label, share) }
        }
        "described" ->
            try {
                val found = Preparation.of(JSONObject(mapOf("preparation" to File(fields[0]).readText())))
                val sides = listOf(found.resize, found.crop, found.size).map { it.joinToString("x") }
                return sides + found.filter.name.lowercase()
            } catch (error: IllegalArgumentException) {
                return listOf("error: ${error.message}")
            }
        "strip" -> return withoutProfile(File(fields[0]).readBytes()).map { it.toInt() and 255 }
        else -> error("unknown operation $name")
    }
}

fun main() {
    for (line in generateSequence(::readlnOrNull).filter { it.isNotEmpty() }) {
        val fields = line.split(" ")
        println(answer(fields[0], fields.drop(1)).joinToString(","))
    }
    classifiers.values.forEach { it.close() }
    segmenters.values.forEach { it.close() }
}
