// What Android has of what the programs call: JSON as org.json gives it.

package org.json

private class Parser(private val text: String) {
    private var place = 0

    fun value(): Any {
        space()
        return when (text[place]) {
            '{' -> JSONObject(pairs('}') { (value() as String).also { space(); place++ } to value() }.toMap())
            '[' -> JSONArray(pairs(']') { value() })
            '"' -> string()
            else -> word()
        }
    }

    private fun <T> pairs(end: Char, one: () -> T): List<T> {
        val all = mutableListOf<T>()
        place++
        while (true) {
            space()
            if (text[place] == end) { place++; return all }
            if (text[place] == ',') { place++; continue }
            all += one()
        }
    }

    private fun string(): String {
        val made = StringBuilder()
        while (text[++place] != '"') {
            if (text[place] != '\\') { made.append(text[place]); continue }
            when (val mark = text[++place]) {
                'u' -> { made.append(text.substring(place + 1, place + 5).toInt(16).toChar()); place += 4 }
                'n' -> made.append('\n')
                't' -> made.append('\t')
                else -> made.append(mark)
            }
        }
        place++
        return made.toString()
    }

    private fun word(): Any {
        val start = place
        while (place < text.length && text[place] !in ",]} \n\r\t") place++
        val found = text.substring(start, place)
        if (found == "null") return JSONObject.NULL
        return found.toIntOrNull() ?: found.toDoubleOrNull() ?: found.toBooleanStrict()
    }

    private fun space() { while (text[place].isWhitespace()) place++ }
}

class JSONArray(private val values: List<Any>) {
    constructor(text: String) : this((Parser(text).value() as JSONArray).values)
    fun length(): Int = values.size
    fun getInt(i: Int): Int = (values[i] as Number).toInt()
    fun getDouble(i: Int): Double = (values[i] as Number).toDouble()
    fun getString(i: Int): String = values[i].toString()
    fun getJSONArray(i: Int): JSONArray = values[i] as JSONArray
}
class JSONObject(private val values: Map<String, Any>) {
    constructor(text: String) : this((Parser(text).value() as JSONObject).values)
    fun has(key: String): Boolean = key in values
    fun opt(key: String): Any? = values[key]
    fun get(key: String): Any = values.getValue(key)
    fun getString(key: String): String = get(key).toString()
    fun getInt(key: String): Int = (get(key) as Number).toInt()
    fun getJSONArray(key: String): JSONArray = get(key) as JSONArray
    fun getJSONObject(key: String): JSONObject = get(key) as JSONObject
    companion object { @JvmField val NULL = Any() }
}
