//! The two macros that the tables of types are written in.

/// Declares a mapping with known fields: the Rust type, its decoder and its schema in one table.
///
/// ```text
/// object! {
///     /// What it is.
///     Destination {
///         /// What the field means.
///         "host" => host: String [required, len(1, 255)],
///         "subset" => subset: Option<String>,
///     }
///     at_most_one ["a", "b"]          // also exactly_one, at_least_one; any number
///     ignored { "legacy": "reason" }  // known, without effect
///     check function                  // fn(&mut Decoder, &Self), for rules across fields
/// }
/// ```
macro_rules! object {
    (
        $(#[$meta:meta])*
        $name:ident {
            $( $(#[$field_meta:meta])* $key:literal => $field:ident : $type:ty
               $([ $($rule:ident $(( $($argument:expr),* ))?),+ ])? ),* $(,)?
        }
        $( at_most_one [ $($most:literal),+ $(,)? ] )*
        $( exactly_one [ $($exact:literal),+ $(,)? ] )*
        $( at_least_one [ $($least:literal),+ $(,)? ] )*
        $( ignored { $($ignored:literal : $reason:literal),+ $(,)? } )?
        $( check $check:path )?
    ) => {
        $(#[$meta])*
        #[derive(Clone, PartialEq, Default, Debug)]
        pub struct $name {
            /// Where it is written.
            pub at: $crate::At,
            $(
                $(#[$field_meta])*
                #[doc = ""]
                #[doc = concat!("Written `", $key, "`.")]
                pub $field: $type,
            )*
        }

        impl $name {
            /// The fields and rules as a table.
            pub const OBJECT: $crate::schema::ObjectSchema = $crate::schema::ObjectSchema {
                name: stringify!($name),
                fields: &[$( $crate::schema::FieldSchema {
                    name: $key,
                    takes: &<$type as $crate::Decode>::SCHEMA,
                    rules: $crate::schema::Rules::NONE $( $( .$rule( $($($argument),*)? ) )+ )?,
                } ),*],
                groups: &[
                    $( $crate::schema::Group::AtMostOne(&[$($most),+]), )*
                    $( $crate::schema::Group::ExactlyOne(&[$($exact),+]), )*
                    $( $crate::schema::Group::AtLeastOne(&[$($least),+]), )*
                ],
                ignored: &[$( $( ($ignored, $reason) ),+ )?],
            };
        }

        impl $crate::Decode for $name {
            const SCHEMA: $crate::schema::TypeSchema =
                $crate::schema::TypeSchema::Object(&Self::OBJECT);

            fn decode(decoder: &mut $crate::Decoder<'_>, at: $crate::At) -> Option<Self> {
                const FIELDS: usize = $name::OBJECT.fields.len();
                let mut found = [None; FIELDS];
                if !decoder.object(at, &Self::OBJECT, &mut found) {
                    return None;
                }
                // The order of the table is the order of the type.
                let mut slots = found.into_iter();
                let value = Self { at, $( $field: decoder.slot(slots.next().flatten()), )* };
                debug_assert!(slots.next().is_none(), "one slot a field");
                $( $check(decoder, &value); )?
                Some(value)
            }
        }
    };
}

/// Declares a field that takes one of a few texts.
macro_rules! choice {
    (
        $(#[$meta:meta])*
        $name:ident { $( $(#[$variant_meta:meta])* $text:literal => $variant:ident ),+ $(,)? }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
        pub enum $name {
            $(
                $(#[$variant_meta])*
                #[doc = ""]
                #[doc = concat!("Written `", $text, "`.")]
                $variant,
            )+
        }

        impl $name {
            /// Every text that is taken.
            pub const TEXTS: &'static [&'static str] = &[$($text),+];

            /// The value as it is written.
            pub fn as_str(self) -> &'static str {
                match self { $( Self::$variant => $text, )+ }
            }
        }

        impl $crate::Decode for $name {
            const SCHEMA: $crate::schema::TypeSchema =
                $crate::schema::TypeSchema::Choice(Self::TEXTS);

            fn decode(decoder: &mut $crate::Decoder<'_>, at: $crate::At) -> Option<Self> {
                let index = decoder.choice(at, Self::TEXTS)?;
                [$( Self::$variant ),+].get(index).copied()
            }
        }
    };
}
