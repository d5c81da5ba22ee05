//! The findings of this crate: 00 the text of files, 01 objects and their fields.

heddle_diag::codes! {
    SYNTAX = "HED0001", "not valid YAML", [],
        "The document cannot be read as YAML. Only this document of the file is left out; the documents before and \
         after it, separated by `---` lines, are read. Nothing of the broken document is in force, so look at it \
         before relying on a deny rule it may hold.";
    TAB = "HED0002", "tab in the indentation", [],
        "YAML allows only spaces for indentation. The document is left out until the tabs are replaced.";
    TOO_LARGE = "HED0003", "file too large", [],
        "The file exceeds a bound on bytes, documents or values and is refused before it can use up memory. \
         Split it; a list of thousands of objects belongs in several files.";
    TOO_DEEP = "HED0004", "nested too deep", [],
        "Lists and mappings nest deeper than any object of any API does. Usually a bracket is never closed.";
    ALIAS_BOMB = "HED0005", "aliases expand too far", [],
        "Aliases (`*name`) of the file expand to more values than are read from one file. Files that do this are \
         usually meant to exhaust memory.";
    UNKNOWN_ALIAS = "HED0006", "alias refers to nothing", [],
        "An alias (`*name`) needs an anchor (`&name`) before it, in the same document. An unquoted text that begins \
         with a star, such as `*.example.com`, is read as an alias: quote it.";
    DUPLICATE_KEY = "HED0007", "key stands twice", [],
        "A mapping has a key twice. kubectl takes the last, other tools the first or none, so what was meant cannot \
         be known. heddle reads the first and treats the mapping as broken.";
    KEY_NOT_TEXT = "HED0008", "key is not a text", [],
        "Keys are texts. kubectl turns unquoted numbers and booleans (`yes`, `on`, `y`) into texts that may differ from \
         what is written; heddle does the same and says so. Lists and mappings cannot be keys; a template such as \
         `{{ .Values.x }}` must be rendered before it is YAML.";
    TAG = "HED0009", "unknown tag", [],
        "YAML tags other than the standard scalar ones (`!!str`, `!!int`, `!!bool`, `!!float`, `!!null`) mean nothing in \
         Kubernetes objects.";
    MERGE = "HED0010", "merge key without mapping", [],
        "`<<` merges the entries of a mapping, or of each mapping of a list, into the one it stands in. heddle \
         expands it as kubectl does.";
    ENCODING = "HED0011", "not UTF-8", [],
        "Files are UTF-8 text. Save the file as UTF-8; UTF-16 is what some editors on Windows write.";

    NOT_AN_OBJECT = "HED0101", "document is not an object", [],
        "A document must be a mapping with `apiVersion`, `kind` and `metadata`. The document is left out.";
    UNKNOWN_KIND = "HED0102", "unknown kind", [],
        "heddle does not know this combination of group and kind. The object is kept and shown, and has no effect.";
    UNKNOWN_VERSION = "HED0103", "version not served", [],
        "The kind exists in this group, but its project never served this version. heddle reads the object by the \
         schema it knows; the API server would reject it.";
    NOT_ENFORCED = "HED0104", "kind not enforced yet", [],
        "heddle recognises the kind and keeps the object, but does not enforce it yet. Nothing it says is in force.";
    UNKNOWN_FIELD = "HED0105", "unknown field", ["IST0106"],
        "The kind has no such field at this place. A strict API server rejects the object, a lenient one drops \
         the field. heddle treats the mapping it stands in as broken: what it restricts cannot be known.";
    WRONG_TYPE = "HED0106", "wrong type", ["IST0106"],
        "The field takes another type of value. An unquoted `yes`, `on`, `1.10` or `0123` is not a text: quote it.";
    MISSING_FIELD = "HED0107", "required field missing", ["IST0106"],
        "The schema of the kind requires the field.";
    UNKNOWN_VALUE = "HED0108", "unknown value", ["IST0106"],
        "The field takes one of a few values, spelled exactly as its project spells them.";
    OUT_OF_RANGE = "HED0109", "value out of range", ["IST0106"],
        "The number, length or count is outside of what the schema of the kind allows.";
    ONE_OF = "HED0110", "fields exclude each other", ["IST0106"],
        "The schema of the kind allows one of these fields at a time.";
    BAD_FORMAT = "HED0111", "value has the wrong form", ["IST0106"],
        "The text has not the form that the schema of the kind asks for, such as a duration (`1h30m`, `250ms`), a \
         quantity (`100m`, `1Gi`) or a label.";
    BAD_NAME = "HED0112", "name not valid", [],
        "Names of objects follow RFC 1123: lower-case letters, digits and dashes (and dots, for most kinds), beginning \
         and ending with a letter or digit.";
    IGNORED_FIELD = "HED0113", "field has no effect", [],
        "The field is read and has no effect in heddle, for the reason given.";
    RULE = "HED0114", "schema rule broken", ["IST0106"],
        "The schema of the kind has a rule across fields, which the object breaks.";
    NESTED_DOCUMENT = "HED0115", "embedded document broken", [],
        "A text field holds a YAML document of its own (such as the mesh configuration in the ConfigMap `istio`), and \
         that document cannot be read.";
    NO_VALUE = "HED0116", "field without value", [],
        "The key is written without a value. The API server drops such a field, so it means the same as leaving it out, \
         which in a policy may allow more than was meant.";
}
