//! What holds proto/ together: generated files are current, the house rules are kept, and nothing that
//! was released is taken back.

#[cfg(test)]
mod compare;
#[cfg(test)]
mod compatibility;
#[cfg(test)]
mod current;
#[cfg(test)]
mod descriptors;
#[cfg(test)]
mod house_rules;
#[cfg(test)]
mod lint;
