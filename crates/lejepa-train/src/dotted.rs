//! Tables by dotted keys.

use lejepa_core::{Advice, Table, Value};

pub(crate) fn at<'a>(table: &'a Table, dotted: &str) -> Option<&'a Value> {
    match dotted.split_once('.') {
        None => table.get(dotted),
        Some((head, rest)) => at(table.get(head)?.as_table()?, rest),
    }
}

pub(crate) fn text<'a>(table: &'a Table, dotted: &str) -> Option<&'a str> {
    at(table, dotted)?.as_str()
}

pub(crate) fn section(table: &Table, dotted: &str) -> Table {
    at(table, dotted).and_then(Value::as_table).cloned().unwrap_or_default()
}

/// The keys of a component's section: all but the one that chooses it.
pub(crate) fn own_keys(table: &Table, dotted: &str) -> Table {
    let mut keys = section(table, dotted);
    keys.remove("name");
    keys
}

pub(crate) fn insert(table: &mut Table, dotted: &str, keys: Table) {
    match dotted.split_once('.') {
        None => {
            table.insert(dotted.into(), Value::Table(keys));
        }
        Some((head, rest)) => {
            let inner = table.entry(head.to_string()).or_insert_with(|| Value::Table(Table::new()));
            if let Value::Table(inner) = inner {
                insert(inner, rest, keys);
            }
        }
    }
}

/// Sets a key, whose section is made where there is none.
pub(crate) fn set(table: &mut Table, dotted: &str, value: Value) {
    match dotted.split_once('.') {
        None => {
            table.insert(dotted.into(), value);
        }
        Some((head, rest)) => {
            let mut inner = section(table, head);
            set(&mut inner, rest, value);
            table.insert(head.into(), Value::Table(inner));
        }
    }
}

pub(crate) fn remove(table: &mut Table, dotted: &str) {
    match dotted.split_once('.') {
        None => {
            table.remove(dotted);
        }
        Some((head, rest)) => {
            if let Some(Value::Table(inner)) = table.get_mut(head) {
                remove(inner, rest);
            }
        }
    }
}

/// A recipe with what was chosen by the data laid over it. Keys of a component that is replaced are dropped.
pub(crate) fn advised(mut recipe: Table, advice: &Advice) -> Table {
    for choice in advice.choices() {
        if let (Some(section), Some(name)) =
            (choice.key.strip_suffix(".name"), choice.value.as_str())
            && text(&recipe, &choice.key).is_some_and(|before| before != name)
        {
            remove(&mut recipe, section);
        }
        set(&mut recipe, &choice.key, choice.value.clone());
    }
    recipe
}

/// Lays the recipe of views over that of their modality.
pub(crate) fn lay_over(recipe: &mut Table, of_views: Table) {
    for (name, section) in of_views {
        match (recipe.get_mut(&name), section) {
            // The keys of another encoder would be unknown.
            (Some(Value::Table(below)), Value::Table(section)) if name != "encoder" => {
                below.extend(section);
            }
            (_, section) => {
                recipe.insert(name, section);
            }
        }
    }
}
