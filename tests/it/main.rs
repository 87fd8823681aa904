//! The integration tests, one binary: one module per stage.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod advice;
mod bad_input;
mod builder;
mod cli;
mod combine;
mod corpus;
mod default_budget;
mod documented;
mod door;
#[path = "../../src/bin/evaluate.rs"]
#[allow(dead_code)]
mod evaluate;
mod files;
mod gradients;
mod graphs;
mod house;
mod infer;
mod latency;
mod limits;
mod links;
mod manners;
mod masked;
mod memory;
mod messages;
mod names;
mod open_sizes;
mod operators;
mod packaging;
mod padding;
mod pages;
mod pictures;
mod plans;
mod planted;
mod profiles;
mod program;
mod prune;
mod quality;
mod reference;
mod repair;
mod rules;
mod sequential;
mod shared;
mod sizes;
mod small;
mod stages;
mod statistics;
mod surface;
mod targets;
mod trials;
mod tuned;
mod ungrouped;
mod wire;
mod without_data;
