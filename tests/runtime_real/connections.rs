//! Many connections, too many connections, and how they are spread over the cores.

use super::*;

async fn connect_without_descriptors(runtime: Runtime) -> Vec<u8> {
    let limit = libc::rlimit { rlim_cur: 200, rlim_max: 200 };
    // SAFETY: the struct is ours.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }, 0);
    let listener = runtime.listen("127.0.0.1:0").await.unwrap();
    let address = listener.local_address().to_string();
    let serving = runtime.clone();
    runtime.spawn("serve", async move {
        while let Ok(Accepted { reader, writer, .. }) = listener.accept().await {
            serving.spawn("echo", echo(serving.clone(), reader, writer));
        }
    });
    let mut hoard = Vec::new();
    while let Ok(file) = fs::File::open("/dev/null") {
        hoard.push(file);
    }
    // One descriptor for our end; none is left for the other.
    hoard.pop();
    let (mut reader, mut writer) = runtime.connect(&address).await.unwrap();
    writer.send(&[chunk(b"are you there")]).await.unwrap();
    runtime.sleep(Duration::from_millis(50)).await;
    assert_eq!(runtime.counters().accepted, 0, "nothing to accept it with");
    hoard.clear();
    read_exactly(&mut reader, 13).await.unwrap()
}

#[test]
fn connections_wait_while_there_are_no_descriptors_and_are_served_then() {
    const TEST: &str =
        "connections::connections_wait_while_there_are_no_descriptors_and_are_served_then";
    if child_part().is_none() {
        assert_eq!(status_of_child(TEST), Some(7));
        return;
    }
    let heard = on_one_core(Options::default(), connect_without_descriptors);
    assert_eq!(heard, b"are you there");
    std::process::exit(7);
}

/// Sockets that the kernel keeps, of all processes.
fn socket_count() -> usize {
    let text = fs::read_to_string("/proc/net/sockstat").unwrap();
    let count = text.split_whitespace().nth(2).unwrap();
    count.parse().unwrap()
}

#[test]
fn a_thousand_connections_leave_no_descriptor_and_no_socket_behind() {
    const TEST: &str =
        "connections::a_thousand_connections_leave_no_descriptor_and_no_socket_behind";
    if child_part().is_none() {
        assert_eq!(status_of_child(TEST), Some(7));
        return;
    }
    let (before, after) = on_one_core(Options::default(), |runtime| async move {
        let open_files = || fs::read_dir("/proc/self/fd").unwrap().count();
        let mut before = (0, 0);
        for round in 0..1000 {
            let [(mut reader, writer), server] = pair(&runtime).await;
            // Read half way, or not at all, or until the end.
            match round % 3 {
                0 => drop(server),
                1 => {
                    let mut buffer = [0; 9];
                    let read = reader.read(&mut buffer);
                    runtime.timeout(Duration::from_micros(10), async { drop(read.await) }).await;
                }
                _ => {
                    drop(server);
                    assert_eq!(reader.read(&mut [0; 9]).await.unwrap(), 0);
                }
            }
            drop((reader, writer));
            if round == 10 {
                before = (open_files(), socket_count());
            }
        }
        runtime.sleep(Duration::from_millis(50)).await;
        (before, (open_files(), socket_count()))
    });
    let descriptors = (before.0, after.0);
    assert!(after.0 <= before.0 + 8, "descriptors, at first and at the end: {descriptors:?}");
    // The ring could keep what no descriptor shows; other tests have sockets, too.
    let sockets = (before.1, after.1);
    assert!(after.1 <= before.1 + 500, "sockets, at first and at the end: {sockets:?}");
    std::process::exit(7);
}

#[test]
#[expect(clippy::disallowed_methods, reason = "this core stands still, as the test wants")]
fn a_core_with_long_turns_accepts_several_connections_in_each() {
    const CONNECTIONS: usize = 200;
    let turns = on_one_core(Options::default(), |runtime| async move {
        let listener = runtime.listen("127.0.0.1:0").await.unwrap();
        // They wait in the kernel: connecting takes no accepting.
        let address = listener.local_address();
        let streams: Vec<_> =
            (0..CONNECTIONS).map(|_| TcpStream::connect(address).unwrap()).collect();
        let ended = Rc::new(Cell::new(false));
        let turns = Rc::new(Cell::new(0));
        let (has_ended, counted, busy) = (ended.clone(), turns.clone(), runtime.clone());
        runtime.spawn("busy", async move {
            while !has_ended.get() {
                std::thread::sleep(Duration::from_millis(2));
                counted.set(counted.get() + 1);
                busy.pass().await;
            }
        });
        for _ in 0..CONNECTIONS {
            listener.accept().await.unwrap();
        }
        ended.set(true);
        drop(streams);
        turns.get()
    });
    assert!(turns < CONNECTIONS / 4, "{turns} turns for {CONNECTIONS} connections");
}

/// Accepts and echoes until told to end; how many connections came to this core.
async fn count_accepted(runtime: Runtime, listener: Listener, counted: Sender<usize>) {
    loop {
        let accepted = first(async { Some(listener.accept().await) }, async {
            runtime.terminated().await;
            None
        });
        let Some(accepted) = accepted.await else { return };
        let Accepted { reader, writer, .. } = accepted.unwrap();
        counted.send(usize::from(runtime.shard().0)).unwrap();
        runtime.spawn("echo", echo(runtime.clone(), reader, writer));
    }
}

/// Listens on one address on two cores, and tells it.
async fn listen_on_both(
    runtime: &Runtime,
    lanes: &Lanes<String>,
    told: Sender<SocketAddr>,
) -> Listener {
    let other = ShardId(1 - runtime.shard().0);
    let mut inbox = Vec::new();
    if runtime.shard() == ShardId(0) {
        let listener = runtime.listen("127.0.0.1:0").await.unwrap();
        lanes.send(other, listener.local_address().to_string()).unwrap();
        lanes.receive(&mut inbox).await;
        told.send(listener.local_address()).unwrap();
        return listener;
    }
    lanes.receive(&mut inbox).await;
    let listener = runtime.listen(&inbox[0]).await.unwrap();
    lanes.send(other, "listening".to_owned()).unwrap();
    listener
}

fn echoes(stream: &mut TcpStream) -> bool {
    stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    stream.write_all(b"x").unwrap();
    stream.read_exact(&mut [0]).is_ok()
}

#[test]
fn connections_are_spread_evenly_and_wait_when_there_are_too_many() {
    const TEST: &str =
        "connections::connections_are_spread_evenly_and_wait_when_there_are_too_many";
    if child_part().is_none() {
        assert_eq!(status_of_child(TEST), Some(7));
        return;
    }
    let (counted, counts) = channel();
    let (told, address) = channel();
    let cores = thread::spawn(move || {
        real::run(cores(2), move |runtime: Runtime, lanes: Lanes<String>| {
            let (counted, told) = (counted.clone(), told.clone());
            async move {
                runtime.limit_connections(8);
                let listener = listen_on_both(&runtime, &lanes, told).await;
                count_accepted(runtime, listener, counted).await;
            }
        })
    });
    let address: SocketAddr = address.recv().unwrap();
    let connect = || TcpStream::connect(address).unwrap();
    let mut streams: Vec<TcpStream> = (0..8).map(|_| connect()).collect();
    assert!(streams.iter_mut().all(echoes));
    let at_core_0 = counts.try_iter().filter(|core| *core == 0).count();
    assert_eq!(at_core_0, 4, "of 8 connections");
    let mut ninth = connect();
    assert!(!echoes(&mut ninth), "there are 8 already");
    streams.pop();
    ninth.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    ninth.read_exact(&mut [0]).expect("one of the 8 is gone");
    drop(cores);
    std::process::exit(7);
}

/// Answers each byte with the core's number and how often the connection was moved, and moves it.
async fn answer_and_move(runtime: Runtime, mut connection: Accepted) {
    let mut byte = [0];
    while connection.reader.read(&mut byte).await.is_ok_and(|count| count == 1) {
        let told = [runtime.shard().0 as u8, connection.moves as u8, byte[0]];
        connection.writer.send(&[chunk(&told)]).await.unwrap();
        if byte[0] == b'!' {
            return;
        }
        let nowhere = runtime.move_connection(connection, ShardId(7));
        connection = nowhere.expect_err("there are two cores");
        match runtime.move_connection(connection, ShardId(1 - runtime.shard().0)) {
            Ok(()) => return,
            Err(back) => connection = back,
        }
    }
}

#[test]
fn a_connection_moves_between_cores_and_loses_nothing() {
    const TEST: &str = "connections::a_connection_moves_between_cores_and_loses_nothing";
    if child_part().is_none() {
        assert_eq!(status_of_child(TEST), Some(7));
        return;
    }
    let (told, address) = channel();
    let cores = thread::spawn(move || {
        real::run(cores(2), move |runtime: Runtime, lanes: Lanes<String>| {
            let told = told.clone();
            async move {
                let listener = listen_on_both(&runtime, &lanes, told).await;
                while let Ok(connection) = listener.accept().await {
                    runtime.spawn("nomad", answer_and_move(runtime.clone(), connection));
                }
            }
        })
    });
    let mut stream = TcpStream::connect(address.recv().unwrap()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let open_files = || fs::read_dir("/proc/self/fd").unwrap().count();
    let before = open_files();
    let mut told = [0; 3];
    let mut core = None;
    for number in 0..200_u8 {
        // Sent two at a time: the second one waits in the socket while the connection moves.
        if number % 2 == 0 {
            stream.write_all(&[number | 128, (number + 1) | 128]).unwrap();
        }
        stream.read_exact(&mut told).unwrap();
        assert_eq!(told[1..], [number, number | 128]);
        assert_ne!(core.replace(told[0]), Some(told[0]), "the other core answers");
    }
    assert!(open_files() <= before + 4, "the descriptors it had are closed");
    stream.write_all(b"!").unwrap();
    stream.read_exact(&mut told).unwrap();
    assert_eq!(stream.read(&mut told).unwrap(), 0, "closed where it is at last");
    drop(cores);
    std::process::exit(7);
}
