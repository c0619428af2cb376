//! Coming, going, and who is there.

use super::Cluster;
use super::observer::{Observer, change, configurations, messages, new_group};
use crate::{Configuration, Error, Event, Guarantee, Iteration, Options, Reason};

pub(super) fn own_join_comes_first(cluster: &dyn Cluster) {
    let group = new_group();
    let first = Observer::joined(cluster, 0, &group);
    let second = Observer::joined(cluster, 1, &group);
    for (observer, members) in [(&first, vec![first.me]), (&second, vec![first.me, second.me])] {
        let Some(Event::Configuration(own)) = observer.history().into_iter().next() else {
            panic!("the first event is not a configuration: {:?}", observer.heard);
        };
        assert_eq!(own.joined, change(observer.me, Reason::Join));
        assert_eq!(own.left, []);
        let mut members = members;
        members.sort();
        assert_eq!(own.members, members);
    }
}

pub(super) fn members_are_sorted_and_the_same_everywhere(cluster: &dyn Cluster) {
    let group = new_group();
    let mut observers: Vec<_> =
        [2, 0, 1].map(|node| Observer::joined(cluster, node, &group)).into_iter().collect();
    observers.iter_mut().for_each(|observer| observer.until_members(3));
    let mut everybody: Vec<_> = observers.iter().map(|observer| observer.me).collect();
    everybody.sort();
    for observer in &observers {
        assert_eq!(configurations(&observer.heard).last().unwrap().members, everybody);
        for configuration in configurations(&observer.heard) {
            assert!(configuration.members.is_sorted());
            assert_eq!(configuration.joined.len(), 1, "stable ring: one configuration a join");
        }
    }
}

pub(super) fn a_second_join_of_a_connection_exists(cluster: &dyn Cluster) {
    let group = new_group();
    let mut observer = Observer::joined(cluster, 0, &group);
    assert_eq!(observer.member.join(&group), Err(Error::Exist));
    assert_eq!(observer.member.join(&new_group()), Err(Error::Exist));
    observer.send("still a member");
    observer.until_message(b"still a member");
}

pub(super) fn a_process_is_in_a_group_once(cluster: &dyn Cluster) {
    let group = new_group();
    let (first, second) = (cluster.connect(), cluster.connect());
    first.join(&group).unwrap();
    assert_eq!(second.join(&group), Err(Error::Exist));
    assert_eq!(second.multicast(Guarantee::Agreed, &[]), Err(Error::NotExist));
    second.join(&new_group()).expect("another group is fine after a refused join");
}

pub(super) fn a_process_can_be_in_several_groups(cluster: &dyn Cluster) {
    let connections = [cluster.connect(), cluster.connect(), cluster.connect()];
    let groups = [new_group(), new_group(), new_group()];
    for (connection, group) in connections.iter().zip(&groups) {
        connection.join(group).unwrap();
    }
    for (connection, group) in connections.iter().zip(&groups) {
        assert!(connection.wait(Some(cluster.patience())).unwrap());
        assert_eq!(connection.members(group), Ok(vec![connection.local_member()]));
    }
}

pub(super) fn leaving_needs_membership(cluster: &dyn Cluster) {
    let mut observer = Observer::new(cluster, 0);
    assert_eq!(observer.member.leave(), Err(Error::NotExist));
    observer.join(&new_group());
    observer.until_members(1);
}

pub(super) fn leaving_is_the_last_event_and_for_good(cluster: &dyn Cluster) {
    let group = new_group();
    let mut observers = Observer::group(cluster, 2, &group);
    let [stays, leaves] = observers.as_mut_slice() else { unreachable!() };
    leaves.send("before");
    leaves.member.leave().unwrap();
    assert_eq!(leaves.member.multicast(Guarantee::Agreed, &[b"after"]), Err(Error::NotExist));
    assert_eq!(stays.until_left(leaves.me), Reason::Leave);
    stays.send("without you");
    stays.until_message(b"without you");

    assert_eq!(leaves.until_left(leaves.me), Reason::Leave);
    leaves.assert_quiet();
    let end = Configuration {
        members: vec![stays.me],
        joined: vec![],
        left: change(leaves.me, Reason::Leave),
    };
    assert_eq!(leaves.history().last(), Some(&Event::Configuration(end)));
    assert!(messages(&leaves.heard).any(|(_, message)| message == "before"));

    assert_eq!(leaves.member.multicast(Guarantee::Agreed, &[b"after"]), Err(Error::NotExist));
    assert_eq!(leaves.member.join(&group), Err(Error::BadHandle));
    assert_eq!(leaves.member.leave(), Err(Error::NotExist));
    stays.assert_quiet();
    assert_eq!(messages(&stays.heard).count(), 2, "what was refused is heard by nobody");
}

pub(super) fn a_new_connection_can_join_after_leaving(cluster: &dyn Cluster) {
    let group = new_group();
    let mut observers = Observer::group(cluster, 2, &group);
    let mut leaves = observers.pop().unwrap();
    leaves.send("first life");
    leaves.member.leave().unwrap();
    leaves.until_left(leaves.me);
    leaves.member.close();
    rejoin(cluster, &group, &mut observers[0]);
}

pub(super) fn a_new_connection_can_join_after_closing(cluster: &dyn Cluster) {
    let group = new_group();
    let mut observers = Observer::group(cluster, 2, &group);
    let mut leaves = observers.pop().unwrap();
    leaves.send("first life");
    leaves.until_message(b"first life");
    leaves.member.close();
    rejoin(cluster, &group, &mut observers[0]);
}

fn rejoin(cluster: &dyn Cluster, group: &crate::GroupName, stays: &mut Observer) {
    stays.until_members(1);
    let mut again = Observer::joined(cluster, 1, group);
    stays.until_members(2);
    again.send("second life");
    again.until_message(b"second life");
    stays.until_message(b"second life");
    assert_eq!(messages(&again.heard).count(), 1, "the first life is not heard by the second");
}

pub(super) fn membership_can_be_asked_for(cluster: &dyn Cluster) {
    let group = new_group();
    let mut observers = Observer::group(cluster, 3, &group);
    let mut everybody: Vec<_> = observers.iter().map(|observer| observer.me).collect();
    everybody.sort();
    for observer in &mut observers {
        assert_eq!(observer.member.members(&group), Ok(everybody.clone()));
    }
    let mut outsider = Observer::new(cluster, 0);
    assert_eq!(outsider.member.members(&group), Ok(everybody));
    assert_eq!(outsider.member.members(&new_group()), Ok(vec![]));
}

pub(super) fn groups_can_be_gone_over(cluster: &dyn Cluster) {
    let (small, large) = (new_group(), new_group());
    let mut observers = Observer::group(cluster, 2, &large);
    let sole_member = Observer::joined(cluster, 2, &small);
    let mut everybody = vec![(small.clone(), sole_member.me)];
    everybody.extend(observers.iter().map(|observer| (large.clone(), observer.me)));
    everybody.sort();
    let observer = &mut observers[0];
    // Other groups may be there as well.
    let mut names: Vec<_> = observer.member.groups(&Iteration::NamesOnly).unwrap();
    assert!(names.iter().all(|row| row.member.is_none()));
    names.retain(|row| row.group == small || row.group == large);
    assert_eq!(names.len(), 2, "each name is there once");
    let mut rows = Vec::new();
    for iteration in
        [Iteration::OneGroup(small.clone()), Iteration::OneGroup(large.clone()), Iteration::All]
    {
        let mut found = observer.member.groups(&iteration).unwrap();
        found.retain(|row| row.group == small || row.group == large);
        let mut found: Vec<_> =
            found.into_iter().map(|row| (row.group, row.member.unwrap())).collect();
        found.sort();
        rows.push(found);
    }
    assert_eq!(rows[2], everybody);
    assert_eq!([rows[0].clone(), rows[1].clone()].concat().len(), 3);
    assert!(rows[0].iter().all(|(group, _)| *group == small));
    assert!(rows[1].iter().all(|(group, _)| *group == large));
    assert_eq!(observer.member.groups(&Iteration::OneGroup(new_group())), Ok(vec![]));
}

pub(super) fn the_local_member_is_the_one_in_the_list(cluster: &dyn Cluster) {
    let group = new_group();
    let connection = cluster.transport().connect(Options::default()).unwrap();
    let me = connection.local_member();
    assert_eq!(me.node, connection.local_node());
    connection.join(&group).unwrap();
    assert!(connection.wait(Some(cluster.patience())).unwrap());
    assert_eq!(connection.members(&group), Ok(vec![me]));
}
