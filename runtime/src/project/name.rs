//! Names of plugins.

/// Bytes of a name: what is called after it, such as `NAME.dead`, stays well below AMQP's 255.
const NAME_BYTES_MAX: usize = 64;

/// A name that every toolchain takes for a package: lower-case words, joined by `-`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name(String);

impl Name {
    /// Reads a name in kebab case or snake case.
    ///
    /// # Errors
    ///
    /// With what is wrong, and a name that would do where one is near.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > NAME_BYTES_MAX {
            return Err(format!("a name has at most {} bytes, and this one has {}", NAME_BYTES_MAX, text.len()));
        }
        if is_name(text) {
            return Ok(Self(text.replace('_', "-")));
        }
        let told = format!("`{text}` is no name for a plugin: lower-case letters, digits, `-` and `_`, a letter first");
        match near(text) {
            Some(near) => Err(format!("{told}\nhint: `{near}`")),
            None => Err(told),
        }
    }

    /// In kebab case: the name of its folder, worker and queue.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// In snake case, as its file is named.
    pub fn snake(&self) -> String {
        snake(&self.0)
    }
}

/// The name of the file, without `.wasm`, that the plugin in a folder of that name is compiled to.
pub fn snake(folder: &str) -> String {
    folder.replace('-', "_")
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_lowercase())
        && text
            .split(['-', '_'])
            .all(|word| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()))
}

/// The name that was probably meant.
fn near(text: &str) -> Option<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let near = words.collect::<Vec<_>>().join("-").to_ascii_lowercase();
    let near = near.trim_start_matches(|c: char| !c.is_ascii_lowercase());
    is_name(near).then(|| near.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_kebab_or_snake() {
        for (text, kebab, snake) in [
            ("hello", "hello", "hello"),
            ("order-notify", "order-notify", "order_notify"),
            ("order_notify", "order-notify", "order_notify"),
            ("v2-mail", "v2-mail", "v2_mail"),
        ] {
            let name = Name::parse(text).unwrap();
            assert_eq!((name.as_str(), name.snake().as_str()), (kebab, snake));
        }
    }

    #[test]
    fn what_is_no_name_is_told_with_one_that_is() {
        for (text, hint) in [
            ("Hello", Some("hello")),
            ("Order Notify", Some("order-notify")),
            ("2mail", Some("mail")),
            ("-a", Some("a")),
            ("a--b", Some("a-b")),
            ("a_", Some("a")),
            ("../../etc/x", Some("etc-x")),
            ("a/b", Some("a-b")),
            ("größe", Some("gr-e")),
            ("", None),
            ("42", None),
            ("..", None),
        ] {
            let error = Name::parse(text).unwrap_err();
            assert!(error.starts_with(&format!("`{text}` is no name for a plugin")), "{error}");
            assert_eq!(error.split_once("hint: ").map(|(_, hint)| hint.trim_matches('`')), hint, "{text}");
        }
        let long = "a".repeat(65);
        assert_eq!(Name::parse(&long).unwrap_err(), "a name has at most 64 bytes, and this one has 65");
    }
}
