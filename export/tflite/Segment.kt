// Labels the pixels of an image file with an exported TFLite model on Android 9 (API 28) and later.
//
//     implementation("com.google.ai.edge.litert:litert:1.4.2")     // app/build.gradle.kts
//
// (1.x, or 2.1 and later, which have org.tensorflow.lite.Interpreter; 2.0 has not.)
// Put model.tflite and its sidecar model.tflite.json into the app's assets; then, off the main thread:
//
//     Segmenter(context, "model.tflite").use { imageView.setImageBitmap(it.segment(file).overlay) }

package nasvitedge.segment

import android.content.Context
import android.graphics.Bitmap
import android.graphics.ColorSpace
import android.graphics.ImageDecoder
import java.io.Closeable
import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder
import kotlin.math.abs
import kotlin.math.floor
import kotlin.math.max
import kotlin.math.min
import org.json.JSONArray
import org.json.JSONObject
import org.tensorflow.lite.DataType
import org.tensorflow.lite.Interpreter

/** The bicubic kernel with a = -0.5, Pillow's. */
fun cubic(distance: Double): Double {
    val x = abs(distance)
    return when {
        x < 1 -> (1.5 * x - 2.5) * x * x + 1
        x < 2 -> ((-0.5 * x + 2.5) * x - 4) * x + 2
        else -> 0.0
    }
}

/** What one output pixel is made of: weights for the inputs from `start` on. */
class Taps(val start: Int, val weights: DoubleArray) {
    inline fun sum(value: (Int) -> Int): Int {
        var total = 0.5 // rounds
        for (i in weights.indices) total += weights[i] * value(start + i)
        return floor(total).toInt().coerceIn(0, 255)
    }
}

/** `size` pixels resized to `resized`; shrinking widens the kernel. */
fun bicubic(size: Int, resized: Int): List<Taps> {
    val scale = size.toDouble() / resized
    val width = max(scale, 1.0)
    return List(resized) {
        val centre = (it + 0.5) * scale
        val start = max(0, (centre - 2 * width + 0.5).toInt())
        val end = min(size, (centre + 2 * width + 0.5).toInt())
        val weights = DoubleArray(end - start) { i -> cubic((start + i + 0.5 - centre) / width) }
        val sum = weights.sum()
        Taps(start, DoubleArray(weights.size) { i -> weights[i] / sum })
    }
}

/** ARGB pixels, all of them, to the RGB bytes of an image of another size. */
fun resize(argb: IntArray, width: Int, height: Int, newWidth: Int, newHeight: Int): IntArray {
    val columns = bicubic(width, newWidth)
    val rows = bicubic(height, newHeight)
    val narrow = IntArray(height * newWidth * 3) { i ->
        val shift = 16 - 8 * (i % 3)
        val row = i / (newWidth * 3) * width
        columns[i / 3 % newWidth].sum { x -> (argb[row + x] shr shift) and 255 }
    }
    return IntArray(newHeight * newWidth * 3) { i ->
        rows[i / (newWidth * 3)].sum { y -> narrow[y * newWidth * 3 + i % (newWidth * 3)] }
    }
}

/** A byte of a channel to [0, 1], minus mean, over std. */
fun normalise(value: Int, mean: Float, std: Float): Float = (value / 255f - mean) / std

/** Of `length` pixels the one at the centre of pixel `place` of `size`. */
fun nearest(place: Int, length: Int, size: Int): Int = (2 * place + 1) * length / (2 * size)

/** Where between two of `length` values one of `size` lies: the lower one, the upper one, the upper one's share. */
class Between(place: Int, length: Int, size: Int) {
    private val at = ((place + 0.5) * length / size - 0.5).coerceIn(0.0, length - 1.0)
    val low = at.toInt()
    val high = min(low + 1, length - 1)
    val share = (at - low).toFloat()
}

/** The largest class of each pixel of logits (height, width, classes) resized to another size. */
fun largest(logits: FloatArray, height: Int, width: Int, newHeight: Int, newWidth: Int): IntArray {
    val classes = logits.size / (height * width)
    val rows = List(newHeight) { Between(it, height, newHeight) }
    val columns = List(newWidth) { Between(it, width, newWidth) }
    val labels = IntArray(newHeight * newWidth)
    for (y in 0 until newHeight) for (x in 0 until newWidth) {
        val row = rows[y]
        val column = columns[x]
        val top = row.low * width
        val bottom = row.high * width
        var best = Float.NEGATIVE_INFINITY
        for (c in 0 until classes) {
            val left = logits[(top + column.low) * classes + c] * (1 - row.share) +
                logits[(bottom + column.low) * classes + c] * row.share
            val right = logits[(top + column.high) * classes + c] * (1 - row.share) +
                logits[(bottom + column.high) * classes + c] * row.share
            val value = left * (1 - column.share) + right * column.share
            if (value > best) {
                best = value
                labels[y * newWidth + x] = c
            }
        }
    }
    return labels
}

/** A colour mixed half and half with another, channel by channel, halves rounded up. */
fun mixed(argb: Int, rgb: Int): Int {
    var result = 0xff shl 24
    for (shift in intArrayOf(16, 8, 0)) {
        val sum = (argb shr shift and 255) + (rgb shr shift and 255)
        result = result or ((sum + 1) / 2 shl shift)
    }
    return result
}

/** `labels` (height * width) are of the model's size; `shares` the classes that occur, the largest first. */
class Outcome(
    val labels: IntArray,
    val overlay: Bitmap,
    val shares: List<Pair<String, Float>>,
    val milliseconds: Double,
) {
    override fun toString(): String =
        shares.joinToString("\n") { (label, share) -> "%5.1f%%  %s".format(100 * share, label) } +
            "\n%.2f ms".format(milliseconds)
}

/** A model with its sidecar JSON; `model` is a direct or a mapped buffer. */
class Segmenter(model: ByteBuffer, sidecar: String, threads: Int = 4) : Closeable {
    private val interpreter = Interpreter(model, Interpreter.Options().setNumThreads(threads))
    private val metadata = JSONObject(sidecar).getJSONObject("metadata")
    private val height = metadata.getString("input_height").toInt()
    private val width = metadata.getString("input_width").toInt()
    private val mean = numbers("mean")
    private val std = numbers("std")
    private val names = list("labels").let { all -> List(all.length()) { all.getString(it) } }
    private val colours = list("palette").let { all -> IntArray(all.length()) { rgb(all.getJSONArray(it)) } }

    constructor(context: Context, asset: String) : this(
        context.assets.open(asset).use { direct(it.readBytes()) },
        context.assets.open("$asset.json").use { it.readBytes().decodeToString() },
    )

    fun segment(file: File): Outcome =
        segment(
            ImageDecoder.decodeBitmap(ImageDecoder.createSource(file)) { decoder, _, _ ->
                decoder.allocator = ImageDecoder.ALLOCATOR_SOFTWARE // pixels of others cannot be read
                decoder.setTargetColorSpace(ColorSpace.get(ColorSpace.Named.SRGB))
            },
        )

    /** The classes of all pixels, and how long the second run took: the first one packs weights. */
    fun segment(image: Bitmap): Outcome {
        val argb = IntArray(image.width * image.height)
        image.getPixels(argb, 0, image.width, 0, 0, image.width, image.height)
        val input = filled(resize(argb, image.width, image.height, width, height))
        val output = ByteBuffer.allocateDirect(interpreter.getOutputTensor(0).numBytes())
        output.order(ByteOrder.nativeOrder())
        interpreter.run(input.rewind(), output.rewind())
        val start = System.nanoTime()
        interpreter.run(input.rewind(), output.rewind())
        val milliseconds = (System.nanoTime() - start) / 1e6
        val labels = labels(output)
        return Outcome(labels, overlay(argb, image, labels), shares(labels), milliseconds)
    }

    override fun close() = interpreter.close()

    /** The input tensor's bytes: every image of the batch is the same one. */
    private fun filled(rgb: IntArray): ByteBuffer {
        val tensor = interpreter.getInputTensor(0)
        require(tensor.dataType() == DataType.FLOAT32) { "an input of ${tensor.dataType()} is not supported" }
        val buffer = ByteBuffer.allocateDirect(tensor.numBytes()).order(ByteOrder.nativeOrder())
        repeat(tensor.shape()[0]) {
            for (i in rgb.indices) buffer.putFloat(normalise(rgb[i], mean[i % 3], std[i % 3]))
        }
        return buffer
    }

    /** The model's labels, or the largest of its logits. */
    private fun labels(buffer: ByteBuffer): IntArray {
        val tensor = interpreter.getOutputTensor(0)
        if (tensor.dataType() == DataType.INT32) return IntArray(height * width) { buffer.getInt(4 * it) }
        require(tensor.dataType() == DataType.FLOAT32) { "an output of ${tensor.dataType()} is not supported" }
        val (_, rows, columns, classes) = tensor.shape()
        val logits = FloatArray(rows * columns * classes) { buffer.getFloat(4 * it) }
        return largest(logits, rows, columns, height, width)
    }

    private fun overlay(argb: IntArray, image: Bitmap, labels: IntArray): Bitmap {
        val blended = IntArray(argb.size) { i ->
            val row = nearest(i / image.width, height, image.height)
            val column = nearest(i % image.width, width, image.width)
            mixed(argb[i], colours[labels[row * width + column]])
        }
        return Bitmap.createBitmap(blended, image.width, image.height, Bitmap.Config.ARGB_8888)
    }

    /** The sort is stable, so the lower index is first where equal. */
    private fun shares(labels: IntArray): List<Pair<String, Float>> {
        val counts = IntArray(names.size)
        for (label in labels) counts[label]++
        return names.indices.filter { counts[it] > 0 }.sortedByDescending { counts[it] }
            .map { names[it] to counts[it].toFloat() / labels.size }
    }

    private fun rgb(colour: JSONArray): Int =
        (colour.getInt(0) shl 16) or (colour.getInt(1) shl 8) or colour.getInt(2)

    /** Metadata are text; lists are JSON in it. */
    private fun list(key: String): JSONArray = JSONArray(metadata.getString(key))

    private fun numbers(key: String): FloatArray =
        list(key).let { FloatArray(it.length()) { i -> it.getDouble(i).toFloat() } }

    companion object {
        private fun direct(bytes: ByteArray): ByteBuffer =
            ByteBuffer.allocateDirect(bytes.size).order(ByteOrder.nativeOrder()).put(bytes)
    }
}
