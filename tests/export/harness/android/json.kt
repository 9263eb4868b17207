// What Android and LiteRT have of what the programs call, so that they compile here; nothing of it runs.

package org.json
class JSONArray(text: String) {
    fun length(): Int = TODO(); fun getInt(i: Int): Int = TODO(); fun getDouble(i: Int): Double = TODO()
    fun getString(i: Int): String = TODO(); fun getJSONArray(i: Int): JSONArray = TODO()
}
class JSONObject(text: String) {
    fun has(key: String): Boolean = TODO(); fun opt(key: String): Any? = TODO(); fun get(key: String): Any = TODO()
    fun getString(key: String): String = TODO(); fun getInt(key: String): Int = TODO()
    fun getJSONArray(key: String): JSONArray = TODO(); fun getJSONObject(key: String): JSONObject = TODO()
}
