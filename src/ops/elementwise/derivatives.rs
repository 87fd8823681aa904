//! Derivatives of functions of one input, from its value and its output.

use crate::graph::NodeView;
use crate::groups::Backward;
use crate::ops::backward::{input, is_greater, number, output, product, scaled};

/// Gives the input the gradient that the name of its derivative makes.
fn give(back: &mut Backward<'_>, derivative: &str) -> Option<()> {
    let gradient = back.output()?;
    let found = product(back, gradient, derivative);
    back.give(0, found);
    Some(())
}

/// `value` to the power of two.
fn square(back: &mut Backward<'_>, value: &str) -> String {
    product(back, value, value)
}

/// 1 less `value`.
fn rest(back: &mut Backward<'_>, value: &str) -> String {
    let one = number(back, 1.0);
    back.graph.node("Sub", &[&one, value], &[])
}

pub(super) fn sigmoid(view: NodeView<'_>, back: &mut Backward<'_>) -> Option<()> {
    let made = output(view)?;
    let rest = rest(back, made);
    let derivative = product(back, made, &rest);
    give(back, &derivative)
}

pub(super) fn tanh(view: NodeView<'_>, back: &mut Backward<'_>) -> Option<()> {
    let square = square(back, output(view)?);
    let derivative = rest(back, &square);
    give(back, &derivative)
}

/// exp(-x^2) times 2 / sqrt(pi).
pub(super) fn erf(view: NodeView<'_>, back: &mut Backward<'_>) -> Option<()> {
    let square = square(back, input(view, 0)?);
    let square = back.graph.node("Neg", &[&square], &[]);
    let bell = back.graph.node("Exp", &[&square], &[]);
    let derivative = scaled(back, &bell, std::f64::consts::FRAC_2_SQRT_PI);
    give(back, &derivative)
}

pub(super) fn exp(view: NodeView<'_>, back: &mut Backward<'_>) -> Option<()> {
    give(back, output(view)?)
}

pub(super) fn sqrt(view: NodeView<'_>, back: &mut Backward<'_>) -> Option<()> {
    let half = number(back, 0.5);
    let derivative = back.graph.node("Div", &[&half, output(view)?], &[]);
    give(back, &derivative)
}

pub(super) fn reciprocal(view: NodeView<'_>, back: &mut Backward<'_>) -> Option<()> {
    let square = square(back, output(view)?);
    let derivative = back.graph.node("Neg", &[&square], &[]);
    give(back, &derivative)
}

pub(super) fn neg(_: NodeView<'_>, back: &mut Backward<'_>) -> Option<()> {
    let gradient = back.output()?;
    let found = back.graph.node("Neg", &[gradient], &[]);
    back.give(0, found);
    Some(())
}

pub(super) fn abs(view: NodeView<'_>, back: &mut Backward<'_>) -> Option<()> {
    let derivative = back.graph.node("Sign", &[input(view, 0)?], &[]);
    give(back, &derivative)
}

pub(super) fn leaky_relu(view: NodeView<'_>, back: &mut Backward<'_>) -> Option<()> {
    let slope = f64::from(view.node.float("alpha", 0.01));
    let zero = number(back, 0.0);
    let above = is_greater(back, input(view, 0)?, &zero);
    let above = scaled(back, &above, 1.0 - slope);
    let below = number(back, slope);
    let derivative = back.graph.node("Add", &[&above, &below], &[]);
    give(back, &derivative)
}

/// `alpha` where the output is between its ends.
pub(super) fn hard_sigmoid(view: NodeView<'_>, back: &mut Backward<'_>) -> Option<()> {
    let made = output(view)?;
    let (zero, one) = (number(back, 0.0), number(back, 1.0));
    let above = is_greater(back, made, &zero);
    let below = is_greater(back, &one, made);
    let inside = product(back, &above, &below);
    let derivative = scaled(back, &inside, f64::from(view.node.float("alpha", 0.2)));
    give(back, &derivative)
}

/// Of x clip(x / 6 + 1/2, 0, 1): 0 below -3, 1 above 3, x / 3 + 1/2 between.
pub(super) fn hard_swish(view: NodeView<'_>, back: &mut Backward<'_>) -> Option<()> {
    let own = input(view, 0)?;
    let (low, high, half) = (number(back, -3.0), number(back, 3.0), number(back, 0.5));
    let third = scaled(back, own, 1.0 / 3.0);
    let slope = back.graph.node("Add", &[&third, &half], &[]);
    let above = is_greater(back, own, &low);
    let below = is_greater(back, &high, own);
    let beyond = rest(back, &below);
    let inside = product(back, &above, &below);
    let inside = product(back, &inside, &slope);
    let derivative = back.graph.node("Add", &[&inside, &beyond], &[]);
    give(back, &derivative)
}

/// Of x F(x) with the normal distribution F: F(x) + x f(x), or that of its approximation by tanh.
pub(super) fn gelu(view: NodeView<'_>, back: &mut Backward<'_>) -> Option<()> {
    if view.node.text("approximate", "none") != "none" {
        return None;
    }
    let own = input(view, 0)?;
    let (one, root) = (number(back, 1.0), std::f64::consts::FRAC_1_SQRT_2);
    let turned = scaled(back, own, root);
    let erf = back.graph.node("Erf", &[&turned], &[]);
    let above = back.graph.node("Add", &[&erf, &one], &[]);
    let share = scaled(back, &above, 0.5);
    let square = square(back, own);
    let half = scaled(back, &square, -0.5);
    let bell = back.graph.node("Exp", &[&half], &[]);
    let bell = scaled(back, &bell, 0.5 * root * std::f64::consts::FRAC_2_SQRT_PI);
    let moved = product(back, own, &bell);
    let derivative = back.graph.node("Add", &[&share, &moved], &[]);
    give(back, &derivative)
}

/// Of x^p with a constant p: p x^(p - 1).
pub(super) fn pow(view: NodeView<'_>, back: &mut Backward<'_>) -> Option<()> {
    let power = view.constant(1).filter(|power| power.len() == 1)?;
    let power = power.to_f64().ok()?.first().copied()?;
    let less = number(back, power - 1.0);
    let lower = back.graph.node("Pow", &[input(view, 0)?, &less], &[]);
    let derivative = scaled(back, &lower, power);
    give(back, &derivative)
}

/// Of what an inference leaves as it is.
pub(super) fn unchanged(_: NodeView<'_>, back: &mut Backward<'_>) -> Option<()> {
    let gradient = back.output()?.to_owned();
    back.give(0, gradient);
    Some(())
}
