//! Values on the command line.

pub fn shape(text: &str) -> Result<(String, Vec<usize>), String> {
    let (name, sizes) = text
        .rsplit_once('=')
        .ok_or("expected NAME=D,D,... such as input=1,3,224,224")?;
    let size = |size: &str| match size.trim().parse() {
        Ok(0) | Err(_) => Err(format!("'{size}' is not a size above zero")),
        Ok(size) => Ok(size),
    };
    Ok((
        name.to_owned(),
        sizes.split(',').map(size).collect::<Result<_, _>>()?,
    ))
}

pub fn positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("expected a whole number above zero".to_owned()),
        Ok(number) => Ok(number),
    }
}

pub fn fraction(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value > 0.0 && value <= 1.0 => Ok(value),
        _ => Err("expected a number above 0 and up to 1".to_owned()),
    }
}

pub fn ratio(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if (0.0..1.0).contains(&value) => Ok(value),
        _ => Err("expected a number from 0 on and below 1".to_owned()),
    }
}
