// What Android has of what the programs call, done by Java's own ImageIO: PNG and JPEG files that need not be turned.

package android.graphics
import java.awt.image.BufferedImage
import java.awt.image.IndexColorModel
import java.io.ByteArrayInputStream
import javax.imageio.ImageIO

abstract class ColorSpace { enum class Named { SRGB } companion object { @JvmStatic fun get(named: Named): ColorSpace = object : ColorSpace() {} } }
class Bitmap(val width: Int, val height: Int, private val argb: IntArray) {
    enum class Config { ARGB_8888, RGBA_F16 }
    val config: Config? get() = Config.ARGB_8888
    fun setColorSpace(space: ColorSpace) {}
    fun getPixels(pixels: IntArray, offset: Int, stride: Int, x: Int, y: Int, width: Int, height: Int) {
        for (line in 0 until height) argb.copyInto(pixels, offset + line * stride, (y + line) * this.width + x, (y + line) * this.width + x + width)
    }
    fun setPixels(pixels: IntArray, offset: Int, stride: Int, x: Int, y: Int, width: Int, height: Int) {
        for (line in 0 until height) pixels.copyInto(argb, (y + line) * this.width + x, offset + line * stride, offset + line * stride + width)
    }
    companion object { @JvmStatic fun createBitmap(width: Int, height: Int, config: Config): Bitmap = Bitmap(width, height, IntArray(width * height)) }
}
class Size(val width: Int, val height: Int)
class ImageDecoder private constructor() {
    class Source(val content: ByteArray)
    class ImageInfo(val size: Size, val mimeType: String)
    fun interface OnHeaderDecodedListener { fun onHeaderDecoded(decoder: ImageDecoder, info: ImageInfo, source: Source) }
    fun setTargetSampleSize(size: Int) { require(size == 1) { "only whole images here" } }
    var allocator: Int = 0
    var isUnpremultipliedRequired: Boolean = false
    companion object {
        const val ALLOCATOR_SOFTWARE = 1
        @JvmStatic fun createSource(buffer: java.nio.ByteBuffer): Source = Source(ByteArray(buffer.remaining()).also { buffer.get(it) })
        @JvmStatic fun decodeBitmap(source: Source, listener: OnHeaderDecodedListener): Bitmap {
            val reader = ImageIO.getImageReaders(ImageIO.createImageInputStream(ByteArrayInputStream(source.content))).next()
            reader.input = ImageIO.createImageInputStream(ByteArrayInputStream(source.content))
            val (width, height) = reader.getWidth(0) to reader.getHeight(0)
            val info = ImageInfo(Size(width, height), reader.originatingProvider.mimeTypes[0])
            val decoder = ImageDecoder()
            listener.onHeaderDecoded(decoder, info, source)
            check(decoder.isUnpremultipliedRequired && decoder.allocator == ALLOCATOR_SOFTWARE)
            return Bitmap(width, height, colours(reader.read(0)))
        }

        /** Its bands as they are stored: Java's own way to colours takes grey for linear. Of 16 bits 8 stay, by rounding. */
        private fun colours(image: BufferedImage): IntArray {
            val (raster, palette) = image.raster to image.colorModel as? IndexColorModel
            val (wide, bands) = (raster.sampleModel.getSampleSize(0) == 16) to raster.numBands
            val most = (1 shl raster.sampleModel.getSampleSize(0)) - 1
            val pixel = IntArray(bands)
            return IntArray(image.width * image.height) {
                raster.getPixel(it % image.width, it / image.width, pixel)
                if (palette != null) return@IntArray palette.getRGB(pixel[0])
                for (band in 0 until bands) pixel[band] = if (wide) (pixel[band] + 128) / 257 else pixel[band] * 255 / most
                val alpha = if (bands % 2 == 0) pixel[bands - 1] else 255
                val (green, blue) = if (bands > 2) pixel[1] to pixel[2] else pixel[0] to pixel[0]
                (alpha shl 24) or (pixel[0] shl 16) or (green shl 8) or blue
            }
        }
    }
}
