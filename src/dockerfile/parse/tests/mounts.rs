//! What RUN mounts and which devices it has.

use super::super::super::{MountKind, Sharing};
use super::{fault, run};

#[test]
fn mounts_are_typed_once_their_values_are_known() {
    let r = run(
        "RUN --mount=type=cache,target=/c,id=$I,sharing=Locked,mode=0700,uid=1 \
                 --mount=type=secret,id=s,env=T,required \
                 --mount=type=tmpfs,dst=/t,size=1.5m \
                 --mount=type=bind,\"source=a b\",target=/x,rw x",
    );
    let mounts: Vec<_> = r
        .mounts
        .iter()
        .map(|m| {
            m.resolve(&mut |text| Ok(text.replace("$I", "key")))
                .unwrap()
        })
        .collect();
    assert_eq!(mounts[0].kind, MountKind::Cache);
    assert_eq!(mounts[0].id.as_deref(), Some("key"));
    assert_eq!(mounts[0].sharing, Sharing::Locked);
    assert_eq!(
        (mounts[0].mode, mounts[0].uid, mounts[0].read_only),
        (Some(0o700), Some(1), false)
    );
    assert_eq!(
        (mounts[1].env.as_deref(), mounts[1].required),
        (Some("T"), true)
    );
    assert_eq!(mounts[2].size, Some(1_572_864));
    assert_eq!(
        (mounts[3].source.as_deref(), mounts[3].read_only),
        (Some("a b"), false)
    );
}

#[test]
fn faulty_mounts_are_refused_in_buildkits_words() {
    let table = [
        (
            "type=bnd,target=/x",
            "unsupported mount type \"bnd\" (did you mean bind?)",
        ),
        (
            "type=bind,trget=/x",
            "unexpected key 'trget' in 'trget=/x' (did you mean target?)",
        ),
        (
            "type=cache,target=/x,sharing=lockd",
            "unsupported sharing value \"lockd\" (did you mean locked?)",
        ),
        (
            "type=bind,target=/x,size=1",
            "unexpected key 'size' for mount type 'bind'",
        ),
        (
            "type=bind,target=/x,required",
            "unexpected key 'required' for mount type 'bind'",
        ),
        (
            "type=bind,target=/x,mode=1",
            "mode not allowed for \"bind\" type mounts",
        ),
        (
            "type=tmpfs,target=/x,uid=1",
            "uid not allowed for \"tmpfs\" type mounts",
        ),
        (
            "type=bind,target=/x,sharing=shared",
            "invalid cache sharing set for bind mount",
        ),
        ("type=cache,target=/x,mode=9", "invalid value 9 for mode"),
        ("type=cache,target=/x,uid=-1", "invalid value -1 for uid"),
        (
            "type=cache,target=/x,ro=maybe",
            "invalid value for ro: maybe",
        ),
        (
            "type=cache,target=/x,source",
            "invalid field 'source' must be a key=value pair",
        ),
        (
            "type=bind,from=$X,target=/x",
            "'from' doesn't support variable expansion, define alias stage instead",
        ),
        (
            "type=secret",
            "invalid secret mount. one of source, target required",
        ),
        (
            "type=secret,id=a,source=b",
            "both source and id can't be set",
        ),
        (
            "type=secret,id=a,from=b",
            "secret mount should not have a from",
        ),
        ("type=bind,target=/", "invalid mount target \"/\""),
        (
            "env=A,target=/x",
            "unexpected key 'env' for mount type 'bind'",
        ),
        (
            "type=bind,\\\"a",
            "invalid quotes in mount \"type=bind,\\\"a\"",
        ),
    ];
    for (value, want) in table {
        assert_eq!(fault(&format!("RUN --mount={value} x")), want, "{value}");
    }
    // A bind without a target covers WORKDIR.
    assert_eq!(run("RUN --mount=type=bind make").mounts.len(), 1);
    // A fault behind a variable waits until the variable is known.
    let r = run("RUN --mount=type=$T,target=/x y");
    let fault = r.mounts[0].resolve(&mut |_| Ok("bnd".into())).unwrap_err();
    assert_eq!(fault.error.to_string(), "unsupported mount type \"bnd\"");
    assert_eq!(fault.suggestion, Some("bind"));
}

#[test]
fn devices_are_read() {
    let r = run(
        "RUN --device=vendor.com/class=gpu0,required --device=name=nvidia.com/gpu=* --device=gpu x",
    );
    let names: Vec<_> = r
        .devices
        .iter()
        .map(|d| (d.name.as_str(), d.required))
        .collect();
    assert_eq!(
        names,
        [
            ("vendor.com/class=gpu0", true),
            ("nvidia.com/gpu=*", false),
            ("gpu", false)
        ]
    );
    assert_eq!(
        fault("RUN --device=required x"),
        "invalid device \"required\": it names no device"
    );
}
