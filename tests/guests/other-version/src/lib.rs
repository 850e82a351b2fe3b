//! A handler of a contract version that no host knows.

wit_bindgen::generate!({
    inline: "
        package wabbit:worker@0.9.0;

        interface handler {
            handle: func(body: list<u8>) -> result<_, string>;
        }

        world worker {
            export handler;
        }
    ",
});

struct Guest;

impl exports::wabbit::worker::handler::Guest for Guest {
    fn handle(_body: Vec<u8>) -> Result<(), String> {
        Ok(())
    }
}

export!(Guest);
