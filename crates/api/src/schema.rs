//! The shape of the types as data: which fields there are, what each takes, and the rules of the CRDs.
//!
//! One table serves the decoder, the near-miss suggestions, the reference pages, and the test that compares the
//! types with upstream's CRDs.

/// What a field takes.
#[derive(Clone, Copy, Debug)]
pub enum TypeSchema {
    /// A text.
    Text,
    /// A boolean.
    Bool,
    /// A whole number between the two, which are included.
    Integer(i64, i64),
    /// Any number.
    Number,
    /// A duration as Go writes it.
    Duration,
    /// A whole number or a text.
    IntOrText,
    /// A Kubernetes quantity.
    Quantity,
    /// Anything; heddle does not look into it.
    Free,
    /// One of these texts.
    Choice(&'static [&'static str]),
    /// A mapping with known fields.
    Object(&'static ObjectSchema),
    /// A list of these.
    List(&'static TypeSchema),
    /// A mapping from texts to these.
    Map(&'static TypeSchema),
}

/// A mapping with known fields.
#[derive(Debug)]
pub struct ObjectSchema {
    /// The name of the type.
    pub name: &'static str,
    /// Its fields, in the order of the Rust type.
    pub fields: &'static [FieldSchema],
    /// Rules over several fields.
    pub groups: &'static [Group],
    /// Fields that are known and have no effect, with the reason.
    pub ignored: &'static [(&'static str, &'static str)],
}

/// A field of an object.
#[derive(Debug)]
pub struct FieldSchema {
    /// As it is written.
    pub name: &'static str,
    /// What it takes.
    pub takes: &'static TypeSchema,
    /// Bounds on its value.
    pub rules: Rules,
}

/// A rule over several fields of an object.
#[derive(Clone, Copy, Debug)]
pub enum Group {
    /// At most one of the fields may be set.
    AtMostOne(&'static [&'static str]),
    /// Exactly one of the fields must be set.
    ExactlyOne(&'static [&'static str]),
    /// At least one of the fields must be set.
    AtLeastOne(&'static [&'static str]),
}

/// A check of a text beyond its length; the error says what was expected.
pub type TextCheck = fn(&str) -> Result<(), &'static str>;

/// Bounds on the value of a field. Lengths count characters, as in JSON schema.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// The field must be there.
    pub required: bool,
    /// `null` may be written, and is the same as leaving the field out.
    pub nullable: bool,
    /// The least and greatest number.
    pub range: Option<(f64, f64)>,
    /// The least and greatest length of a text.
    pub len: Option<(usize, usize)>,
    /// The least and greatest count of items or entries.
    pub count: Option<(usize, usize)>,
    /// The length of each text item or entry.
    pub item_len: Option<(usize, usize)>,
    /// The range of each number item or entry.
    pub item_range: Option<(f64, f64)>,
    /// A check of the text.
    pub check: Option<TextCheck>,
    /// A check of each text item or entry.
    pub item_check: Option<TextCheck>,
    /// A check of each key.
    pub key_check: Option<TextCheck>,
    /// The least duration in nanoseconds.
    pub duration_min_ns: Option<i64>,
    /// The field of each item by which items must differ; empty: the items themselves must.
    pub unique: Option<&'static str>,
}

impl Rules {
    /// No rule at all.
    pub const NONE: Self = Self {
        required: false,
        nullable: false,
        range: None,
        len: None,
        count: None,
        item_len: None,
        item_range: None,
        check: None,
        item_check: None,
        key_check: None,
        duration_min_ns: None,
        unique: None,
    };

    /// The field must be there.
    #[must_use]
    pub const fn required(mut self) -> Self {
        self.required = true;
        self
    }

    /// `null` is allowed.
    #[must_use]
    pub const fn nullable(mut self) -> Self {
        self.nullable = true;
        self
    }

    /// The least and greatest number.
    #[must_use]
    pub const fn range(mut self, min: f64, max: f64) -> Self {
        self.range = Some((min, max));
        self
    }

    /// The least number.
    #[must_use]
    pub const fn min(self, min: f64) -> Self {
        self.range(min, f64::INFINITY)
    }

    /// A TCP or UDP port: 1 to 65535.
    #[must_use]
    pub const fn port(self) -> Self {
        self.range(1.0, 65_535.0)
    }

    /// The least and greatest length of a text.
    #[must_use]
    pub const fn len(mut self, min: usize, max: usize) -> Self {
        self.len = Some((min, max));
        self
    }

    /// A text that is not empty.
    #[must_use]
    pub const fn not_empty(self) -> Self {
        self.len(1, usize::MAX)
    }

    /// The least and greatest count of items or entries.
    #[must_use]
    pub const fn count(mut self, min: usize, max: usize) -> Self {
        self.count = Some((min, max));
        self
    }

    /// The length of each item or entry.
    #[must_use]
    pub const fn item_len(mut self, min: usize, max: usize) -> Self {
        self.item_len = Some((min, max));
        self
    }

    /// The range of each item or entry.
    #[must_use]
    pub const fn item_range(mut self, min: f64, max: f64) -> Self {
        self.item_range = Some((min, max));
        self
    }

    /// A check of the text.
    #[must_use]
    pub const fn check(mut self, check: TextCheck) -> Self {
        self.check = Some(check);
        self
    }

    /// A check of each text item or entry.
    #[must_use]
    pub const fn item_check(mut self, check: TextCheck) -> Self {
        self.item_check = Some(check);
        self
    }

    /// A check of each key of a mapping.
    #[must_use]
    pub const fn key_check(mut self, check: TextCheck) -> Self {
        self.key_check = Some(check);
        self
    }

    /// Items must differ in this field; with an empty name the items themselves must.
    #[must_use]
    pub const fn unique(mut self, field: &'static str) -> Self {
        self.unique = Some(field);
        self
    }

    /// A duration of at least a millisecond, as most of Istio's must be.
    #[must_use]
    pub const fn duration_min_1ms(mut self) -> Self {
        self.duration_min_ns = Some(1_000_000);
        self
    }
}
