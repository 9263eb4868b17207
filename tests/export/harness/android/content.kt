// What Android has of what the programs call.

package android.content
class Assets { fun open(name: String): java.io.InputStream = java.io.FileInputStream(name) }
abstract class Context { val assets = Assets() }
