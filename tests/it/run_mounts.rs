//! RUN --mount: bind, cache and tmpfs, and what is left of them in the image.

use crate::support::TestEnv;
use crate::support::canary::Canary;

fn env(dockerfile: &str) -> TestEnv {
    let t = TestEnv::new().dockerfile(dockerfile);
    t.busybox("busybox");
    t
}

#[test]
fn an_absolute_link_in_the_context_leads_nowhere_outside() {
    let t = env("FROM busybox\nCOPY link/f /f\n");
    let canary = Canary::at(t.beside("canary"));
    t.symlink(canary.root().to_str().unwrap(), "link");
    t.build().fails(1);
    canary.unchanged();
}
