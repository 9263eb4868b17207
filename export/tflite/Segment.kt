// Labels the pixels of an image file with an exported TFLite model on Android 9 (API 28) and later.
//
//     implementation("com.google.ai.edge.litert:litert:1.4.2")     // app/build.gradle.kts
//
// (1.x, or 2.1 and later, which have org.tensorflow.lite.Interpreter; 2.0 has not.)
// Add PrepareImage.kt too, and put model.tflite and its sidecar model.tflite.json into the app's assets; then, off the main thread:
//
//     Segmenter(context, "model.tflite").use { imageView.setImageBitmap(it.segment(file).overlay) }

package nasvitedge.segment

import android.content.Context
import android.graphics.Bitmap
import java.io.Closeable
import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder
import kotlin.math.min
import nasvitedge.BitmapSource
import nasvitedge.Preparation
import nasvitedge.over
import nasvitedge.prepared
import nasvitedge.readImage
import org.json.JSONArray
import org.json.JSONObject
import org.tensorflow.lite.DataType
import org.tensorflow.lite.Interpreter

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
    private val preparation = Preparation.of(metadata)
    private val height = preparation.size[0]
    private val width = preparation.size[1]
    private val names = list("labels").let { all -> List(all.length()) { all.getString(it) } }
    private val colours = list("palette").let { all -> IntArray(all.length()) { rgb(all.getJSONArray(it)) } }

    constructor(context: Context, asset: String) : this(
        context.assets.open(asset).use { direct(it.readBytes()) },
        context.assets.open("$asset.json").use { it.readBytes().decodeToString() },
    )

    fun segment(file: File): Outcome = segment(readImage(file, preparation))

    /** The classes of all pixels, and how long the second run took: the first one packs weights. */
    fun segment(image: Bitmap): Outcome {
        val input = filled(prepared(BitmapSource(image), preparation))
        val output = ByteBuffer.allocateDirect(interpreter.getOutputTensor(0).numBytes())
        output.order(ByteOrder.nativeOrder())
        interpreter.run(input.rewind(), output.rewind())
        val start = System.nanoTime()
        interpreter.run(input.rewind(), output.rewind())
        val milliseconds = (System.nanoTime() - start) / 1e6
        val labels = labels(output)
        return Outcome(labels, overlay(image, labels), shares(labels), milliseconds)
    }

    override fun close() = interpreter.close()

    /** The input tensor's bytes: every image of the batch is the same one. */
    private fun filled(values: FloatArray): ByteBuffer {
        val tensor = interpreter.getInputTensor(0)
        require(tensor.dataType() == DataType.FLOAT32) { "an input of ${tensor.dataType()} is not supported" }
        val buffer = ByteBuffer.allocateDirect(tensor.numBytes()).order(ByteOrder.nativeOrder())
        repeat(tensor.shape()[0]) {
            for (value in values) buffer.putFloat(value)
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

    private fun overlay(image: Bitmap, labels: IntArray): Bitmap {
        val made = Bitmap.createBitmap(image.width, image.height, Bitmap.Config.ARGB_8888)
        val argb = IntArray(image.width)
        for (y in 0 until image.height) {
            image.getPixels(argb, 0, image.width, 0, y, image.width, 1)
            val row = nearest(y, height, image.height) * width
            for (x in argb.indices) {
                val label = labels[row + nearest(x, width, image.width)]
                argb[x] = mixed(over(argb[x], preparation.background), colours[label])
            }
            made.setPixels(argb, 0, image.width, 0, y, image.width, 1)
        }
        return made
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

    companion object {
        private fun direct(bytes: ByteArray): ByteBuffer =
            ByteBuffer.allocateDirect(bytes.size).order(ByteOrder.nativeOrder()).put(bytes)
    }
}
