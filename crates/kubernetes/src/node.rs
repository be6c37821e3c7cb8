use std::fmt::Write;

use serde_json::Value;

/// A small tree of named values that keeps its order, to be printed.
#[derive(Clone, Debug, PartialEq)]
pub enum Node {
    /// A text, number, truth value or nothing.
    Scalar(Value),
    /// Named values in their order.
    Map(Vec<(String, Node)>),
    /// Values in their order.
    List(Vec<Node>),
}

impl Node {
    /// A map of these.
    pub fn map<'n>(entries: impl IntoIterator<Item = (&'n str, Node)>) -> Node {
        Node::Map(entries.into_iter().map(|(name, node)| (name.to_owned(), node)).collect())
    }

    /// A text.
    pub fn text(text: impl Into<String>) -> Node {
        Node::Scalar(Value::String(text.into()))
    }

    /// A number.
    pub fn number(number: impl Into<serde_json::Number>) -> Node {
        Node::Scalar(Value::Number(number.into()))
    }

    /// Bytes, as a text of hexadecimal digits.
    pub fn hex(bytes: &[u8]) -> Node {
        Node::text(bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            // A string takes everything.
            let _ = write!(text, "{byte:02x}");
            text
        }))
    }

    /// The same as a JSON value says.
    pub fn from_json(json: Value) -> Node {
        match json {
            Value::Object(map) => {
                Node::Map(map.into_iter().map(|(name, value)| (name, Node::from_json(value))).collect())
            }
            Value::Array(values) => Node::List(values.into_iter().map(Node::from_json).collect()),
            scalar => Node::Scalar(scalar),
        }
    }

    /// In one line of JSON, without its end.
    pub fn to_json(&self) -> String {
        let mut text = String::new();
        self.write_json(&mut text);
        text
    }

    fn write_json(&self, to: &mut String) {
        match self {
            Node::Scalar(value) => to.push_str(&value.to_string()),
            Node::Map(entries) => {
                to.push('{');
                for (index, (name, node)) in entries.iter().enumerate() {
                    let comma = if index == 0 { "" } else { "," };
                    let _ = write!(to, "{comma}{}:", Value::from(name.as_str()));
                    node.write_json(to);
                }
                to.push('}');
            }
            Node::List(nodes) => {
                to.push('[');
                for (index, node) in nodes.iter().enumerate() {
                    to.push_str(if index == 0 { "" } else { "," });
                    node.write_json(to);
                }
                to.push(']');
            }
        }
    }

    /// As YAML, with an end of line behind each. Every text is quoted as in JSON, which YAML reads as it is.
    pub fn to_yaml(&self) -> String {
        let mut text = String::new();
        self.write_yaml(&mut text, 0);
        text
    }

    fn write_yaml(&self, to: &mut String, depth: usize) {
        match self {
            Node::Map(entries) if !entries.is_empty() => {
                for (index, (name, node)) in entries.iter().enumerate() {
                    indent(to, if index == 0 { 0 } else { depth });
                    to.push_str(&yaml_name(name));
                    to.push(':');
                    node.write_yaml_behind(to, depth + 1);
                }
            }
            Node::List(nodes) if !nodes.is_empty() => {
                for (index, node) in nodes.iter().enumerate() {
                    indent(to, if index == 0 { 0 } else { depth });
                    to.push_str("- ");
                    node.write_yaml(to, depth + 1);
                }
            }
            scalar => {
                scalar.write_json(to);
                to.push('\n');
            }
        }
    }

    fn write_yaml_behind(&self, to: &mut String, depth: usize) {
        let is_empty = match self {
            Node::Map(entries) => entries.is_empty(),
            Node::List(nodes) => nodes.is_empty(),
            Node::Scalar(_) => true,
        };
        if is_empty {
            to.push(' ');
        } else {
            to.push('\n');
            indent(to, depth);
        }
        self.write_yaml(to, depth);
    }
}

fn indent(to: &mut String, depth: usize) {
    to.extend(std::iter::repeat_n("  ", depth));
}

/// A name as it is where nothing else can be read into it, else quoted.
fn yaml_name(name: &str) -> String {
    let is_plain = name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "_-./".contains(c))
        && !["null", "true", "false", "yes", "no", "on", "off", "y", "n"]
            .contains(&name.to_ascii_lowercase().as_str());
    if is_plain { name.to_owned() } else { Value::from(name).to_string() }
}
