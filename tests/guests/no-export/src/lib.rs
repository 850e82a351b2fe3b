//! A component that exports something else than a handler.

wit_bindgen::generate!({
    inline: "
        package acme:math@1.0.0;

        interface sum {
            add: func(a: u32, b: u32) -> u32;
        }

        world guest {
            export sum;
        }
    ",
});

struct Guest;

impl exports::acme::math::sum::Guest for Guest {
    fn add(a: u32, b: u32) -> u32 {
        a.wrapping_add(b)
    }
}

export!(Guest);
