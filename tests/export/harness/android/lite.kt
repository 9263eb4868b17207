// What LiteRT has of what the programs call, by the real LiteRT: a child with its Python package runs the model (litert.py).

package org.tensorflow.lite
import java.io.DataInputStream
import java.nio.ByteBuffer
import kotlin.io.path.createTempFile
import kotlin.io.path.writeBytes

enum class DataType { FLOAT32, INT32, INT8 }
class Tensor(line: String) {
    class QuantizationParams(val scale: Float, val zeroPoint: Int)
    private val fields = line.split(" ")
    fun dataType(): DataType = DataType.valueOf(fields[0])
    fun numBytes(): Int = fields[1].toInt()
    fun quantizationParams(): QuantizationParams = QuantizationParams(fields[2].toFloat(), fields[3].toInt())
    fun shape(): IntArray = fields.drop(4).map { it.toInt() }.toIntArray()
}
class Interpreter(model: ByteBuffer, @Suppress("UNUSED_PARAMETER") options: Options) : AutoCloseable {
    class Options { @Suppress("UNUSED_PARAMETER") fun setNumThreads(threads: Int): Options = this }
    private val file = createTempFile(suffix = ".tflite").also { it.writeBytes(bytes(model)) }
    private val child = ProcessBuilder(System.getProperty("litert").split(" ") + file.toString())
        .redirectError(ProcessBuilder.Redirect.DISCARD).start()
    private val answers = DataInputStream(child.inputStream)
    private val tensors = List(2) { Tensor(line()) }
    fun getInputTensor(i: Int): Tensor = tensors[0].also { check(i == 0) }
    fun getOutputTensor(i: Int): Tensor = tensors[1].also { check(i == 0) }
    fun run(input: Any, output: Any) {
        val given = bytes(input as ByteBuffer)
        check(given.size == tensors[0].numBytes())
        child.outputStream.write(given)
        child.outputStream.flush()
        (output as ByteBuffer).put(ByteArray(tensors[1].numBytes()).also { answers.readFully(it) })
    }
    override fun close() { child.destroy(); file.toFile().delete() }
    private fun bytes(buffer: ByteBuffer) = ByteArray(buffer.rewind().remaining()).also { buffer.get(it) }
    private fun line(): String = generateSequence { answers.readByte().toInt().toChar() }.takeWhile { it != '\n' }.joinToString("")
}
